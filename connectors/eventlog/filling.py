"""What one transaction of a shared log writes, worked out from what is stored and what callers want. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from connectors.eventlog.fence import UNTAKEN, CellRow, check_fence, moved
from connectors.eventlog.work import Append, End, Row, Take, Work, chained
from schemas.errors import Fenced
from schemas.records import Appended, Taken

Answer = Appended | Taken | Fenced


@dataclass(slots=True)
class Filling:
    """A transaction while it is being filled, then what it writes."""

    end: End
    """The log's end, moved along."""
    cells: dict[str, CellRow]
    """Of the cells that are written, as they will be."""
    positions: dict[str, dict[str, int]]
    """Input positions of these cells, by source."""
    answers: list[Answer] = field(default_factory=list)
    """For each piece of work, in order."""
    rows: list[Row] = field(default_factory=list)
    """New events."""
    subjects: list[tuple[str, int]] = field(default_factory=list)
    """New entries of the index."""
    cells_written: set[str] = field(default_factory=set)
    inputs_moved: set[tuple[str, str]] = field(default_factory=set)

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit: not when all were fenced."""
        return bool(self.cells_written)

    def fill(self, group: Sequence[Work], now_us: int) -> None:
        """Do every piece of work in turn; one that is fenced writes nothing and does not disturb the others."""
        for work in group:
            try:
                self.answers.append(self._append(work, now_us) if isinstance(work, Append) else self._take(work))
            except Fenced as fenced:
                self.answers.append(fenced)

    def _append(self, work: Append, now_us: int) -> Appended:
        cell = work.cell
        stored, positions = self.cells.get(cell, UNTAKEN), self.positions.get(cell, {})
        check_fence(cell, stored, positions, expected=work.expected, advance=work.advance, epoch=work.epoch)
        after = moved(positions, work.advance)
        self.end.recorded_at = max(self.end.recorded_at, now_us)
        rows = chained(work, stored.version, msgspec.json.encode(after), self.end)
        self.rows += rows
        for row, fact in zip(rows, work.facts, strict=True):
            self.subjects += [(indexed(subject), row[0]) for subject in fact.subjects]
        self.positions[cell] = after
        self.inputs_moved.update((cell, source) for source in work.advance)
        self.cells[cell] = CellRow(stored.version + len(rows), stored.epoch)
        self.cells_written.add(cell)
        return Appended(stored.version + len(rows), self.end.position)

    def _take(self, work: Take) -> Taken:
        stored = self.cells.get(work.cell, UNTAKEN)
        self.cells[work.cell] = CellRow(stored.version, stored.epoch + 1)
        self.cells_written.add(work.cell)
        return Taken(stored.epoch + 1, stored.version, dict(sorted(self.positions.get(work.cell, {}).items())))


def begun(end: End, cells: Iterable[tuple[str, int, int]], positions: Iterable[tuple[str, str, int]]) -> Filling:
    """Begin with what is stored.

    Args:
        end: The log's end.
        cells: Cell, version and epoch.
        positions: Cell, source and position.
    """
    by_cell: dict[str, dict[str, int]] = {}
    for cell, source, position in positions:
        by_cell.setdefault(cell, {})[source] = position
    return Filling(end, {cell: CellRow(version, epoch) for cell, version, epoch in cells}, by_cell)


def indexed(subject: str) -> str:
    """Return the subject as PostgreSQL's text can hold it: it takes no NUL, which a person's request may contain."""
    return subject.replace("\0", "\ufffd")


def check_names(cell: str, sources: Mapping[str, object]) -> None:
    """Refuse names that PostgreSQL's text cannot hold.

    Raises:
        ValueError: the cell's name or a source's has a NUL.
    """
    for name in (cell, *sources):
        if "\0" in name:
            raise ValueError(f"{name!r} has a NUL: name cells and sources without")
