"""Historian files as rows of a configured cell: the same rows that the agent would have made of these samples.

A column belongs to the tag of its name; the names are compared as a header becomes a tag's name, so `Grip Force N` is
`grip_force_n`. A mapping says it otherwise. Values must be in the tag's unit: nothing is converted but by its factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from connectors.recordings.play import play
from connectors.recordings.sniff import sniff
from pipelines.features.cell_rows import CellRows
from pipelines.features.packed import Counts, Floats
from schemas.errors import RecordingError
from schemas.plant import Cell
from schemas.recording import RecordingMapping
from schemas.samples import Gap, SampleBatch, Tick

HOLD_S_MAX: Final = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one group, of all files, oldest first."""

    group: str
    names: tuple[str, ...]
    end_at: Counts
    """Shape `(rows,)`, microseconds since 1970 UTC."""
    values: Floats
    """Shape `(rows, tags)`; NaN where there is no good value."""


def mapping_for(path: Path, cell: Cell) -> RecordingMapping:
    """Return the mapping of a file whose columns have the names of the cell's tags.

    Raises:
        RecordingError: unreadable, or no column belongs to a tag.
    """
    sniffed = sniff(path).mapping
    tags = {tag.name for tag in cell.tags if tag.minus is None}
    mapped = tuple(column for column in sniffed.columns if column.tag in tags)
    if not mapped:
        known = ", ".join(sorted(tags)[:8])
        problem = f"none of {', '.join(c.column for c in sniffed.columns)} is a tag of cell {cell.id!r}"
        raise RecordingError(str(path), "columns", problem, f"Name columns as tags ({known} …), or give --mapping")
    others = [c.column for c in sniffed.columns if c not in mapped]
    return sniffed.model_copy(update={"columns": mapped, "ignore": (*sniffed.ignore, *others)})


def as_recorded(cell: Cell, mapping: RecordingMapping) -> Cell:
    """Return the cell as a recording shows it: without PackML states, and tags that it lacks are not waited for.

    Statistics would wait for EXECUTE for ever, and every tag without a column would count as stale.
    """
    there = {column.tag for column in mapping.columns}
    tags = [tag if tag.name in there else tag.model_copy(update={"hold_s": HOLD_S_MAX}) for tag in cell.tags]
    return cell.model_copy(update={"state_node": "", "tags": tuple(tags)})


def gather(paths: Sequence[Path], cell: Cell, mapping: RecordingMapping | None = None) -> list[Rows]:
    """Return the rows of all files, a group after the other.

    Raises:
        RecordingError: a file cannot be used, or the rows of two files overlap.
    """
    kept: dict[str, list[tuple[Counts, Floats]]] = {group.id: [] for group in cell.groups}
    names: dict[str, tuple[str, ...]] = {}
    for path in paths:
        rows = CellRows(cell)
        names = {columns.group.id: columns.names for columns in rows.columns}
        closed: dict[str, tuple[list[int], list[Floats]]] = {group.id: ([], []) for group in cell.groups}
        for message in play(path, mapping or mapping_for(path, cell), cell):
            match message:
                case SampleBatch():
                    rows.take(message)
                case Gap():
                    rows.take_gap(message)
                case Tick():
                    for row in rows.tick(message):
                        closed[row.group][0].append(row.end_at)
                        closed[row.group][1].append(row.values)
        for group, (ends, values) in closed.items():
            if ends:
                kept[group].append((np.array(ends, dtype=np.int64), np.stack(values)))
    return [_together(paths, group, names[group], parts) for group, parts in kept.items() if parts]


def _together(paths: Sequence[Path], group: str, names: tuple[str, ...], parts: list[tuple[Counts, Floats]]) -> Rows:
    parts.sort(key=lambda part: int(part[0][0]))
    end_at = np.concatenate([ends for ends, _ in parts])
    if len(end_at) > 1 and np.diff(end_at).min() <= 0:
        remedy = "Give each stretch of time once"
        raise RecordingError(", ".join(map(str, paths)), "times", "two files have rows of the same time", remedy)
    return Rows(group, names, end_at, np.concatenate([values for _, values in parts]))
