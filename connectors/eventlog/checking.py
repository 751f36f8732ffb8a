"""What verifications share: the result, the walk from signed head to signed head, and the name of what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from connectors.eventlog.walk import Break, RawRow, Walk, link_or_none
from schemas.records import SignedHead

Kind = Literal[
    "not_a_log", "unreadable", "key_missing", "foreign_key", "head_missing", "head_signature", "head_of_another_log",
    "edited", "deleted", "inserted", "reordered", "cut", "rewritten", "unsigned", "version_gap", "index",
]  # fmt: skip
"""What can be wrong; see docs/event-log.md."""

CHUNK_ROWS = 10_000
"""Rows per query: no snapshot is held longer."""

Progress = Callable[[int, int], None]
"""Called with records checked and records there are."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result: all is well, or the first bad position and its kind."""

    checked_n: int
    """Records that verified, from the first on."""
    head: SignedHead | None
    """The newest head whose signature holds."""
    position: int | None = None
    """Where it is wrong first; 0: not at a record. None: all is well."""
    kind: Kind | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.kind is None


class Wrong(Exception):
    """The first thing that is found wrong."""

    def __init__(self, position: int, kind: Kind, detail: str) -> None:
        self.position, self.kind, self.detail = position, kind, detail
        super().__init__(detail)


class Rows(Protocol):
    """The stored events of a database."""

    def last(self) -> int:
        """Return the position of the last, 0 if there is none."""

    def between(self, after: int, to: int, rows_max: int = -1) -> Iterable[RawRow]:
        """Return the events after one position up to another, in order; -1: all of them."""


SHIFT_MAX = 1000
"""Renumbering by up to so many records is recognised as such; by more, it is `edited`."""

_NO_END = 2**62


def walk_to(rows: Rows, walk: Walk, to: int | None, progress: Progress) -> None:
    """Go on to the record at `to`; None: to the last.

    Raises:
        Wrong: a record does not fit, or there are none up to there.
    """
    last = _NO_END if to is None else to
    total = rows.last()
    while walk.position < last:
        before = walk.position
        broken = walk.along(rows.between(before, last, CHUNK_ROWS))
        if broken is not None:
            raise _diagnosis(rows, walk, broken)
        if walk.position == before:
            break
        progress(walk.position, max(total, walk.position))
    if to is not None and walk.position < to:
        kind: Kind = "deleted" if total > walk.position else "cut"
        detail = f"the signed head is at {to}; after {walk.position} no record of that stretch is left"
        raise Wrong(walk.position + 1, kind, detail)


def meets(walk: Walk, head: SignedHead) -> None:
    """Compare the chain at a head's position with the head.

    Raises:
        Wrong: it is another one.
    """
    if walk.chain != head.chain:
        detail = "the chain up to here is sound in itself, but not the one that was signed"
        raise Wrong(head.position, "rewritten", detail)


def check_versions(walk: Walk, stored: dict[bytes, int]) -> None:
    """Compare the versions that the store goes on from with those of the records.

    Raises:
        Wrong: a cell's differ.
    """
    versions = {cell: version for cell, version in walk.versions.items() if version}
    for cell in versions.keys() | stored.keys():
        if versions.get(cell) != stored.get(cell):
            detail = f"cell {cell!r} is at version {stored.get(cell)}, its records at {versions.get(cell)}"
            raise Wrong(walk.position, "index", f"table cells: {detail}")


def _diagnosis(rows: Rows, walk: Walk, broken: Break) -> Wrong:
    """Name what was done at the first row that does not fit."""
    at, row = broken.position, broken.row
    if broken.misfit == "version":
        detail = f"version {row[2]!r} of cell {row[1]!r} follows {walk.versions.get(row[1], 0)}"
        return Wrong(at, "version_gap", detail)
    moved_to = _where_it_went(rows, walk, broken)
    if moved_to is not None:
        return Wrong(at, "reordered", f"the record that belongs here is at {moved_to}")
    if broken.misfit == "position":
        return Wrong(at, "deleted", f"the next record is at {row[0]}")
    shift = _shift(rows, row)
    if shift > 0:
        return Wrong(at, "deleted", f"{shift} records are gone and the rest was renumbered")
    if shift < 0:
        return Wrong(at, "inserted", f"{-shift} records were put in and the rest was renumbered")
    return Wrong(at, "edited", "what is stored is not what was chained")


def _where_it_went(rows: Rows, walk: Walk, broken: Break) -> int | None:
    """Look through the whole log for the row that fits at the break; None: it is nowhere."""
    at, stored = broken.position, broken.row[7]
    row: RawRow
    for row in rows.between(walk.position, _NO_END):
        if row[0] == at:
            continue
        expected = walk.versions.get(row[1], 0) + 1
        for version in {row[2], expected} if isinstance(row[2], int) else (expected,):
            computed = link_or_none(walk.chain, row, position=at, version=version)
            if computed is not None and computed in (row[7], stored):
                return row[0]
    return None


def _shift(rows: Rows, row: RawRow) -> int:
    """Tell by how much the rows after `row` were renumbered, above 0 if downwards; 0: not, as far as one sees."""
    for after in rows.between(row[0], _NO_END, 1):
        for shift in range(1, SHIFT_MAX + 1):
            for signed in (shift, -shift):
                if link_or_none(row[7], after, position=after[0] + signed) == after[7]:
                    return signed
    return 0
