"""The compare of compare-and-append. Pure; the same rules for every store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import Fenced
from schemas.records import Advance


@dataclass(frozen=True, slots=True)
class CellRow:
    """What a store knows of a cell beside its facts."""

    version: int
    """Of its last fact, 0 if there is none."""
    epoch: int
    """Of who took it last, 0 if nobody did."""


UNTAKEN = CellRow(version=0, epoch=0)


def check_fence(
    cell: str, stored: CellRow, positions: Mapping[str, int], *, expected: int, advance: Advance, epoch: int
) -> None:
    """Compare what the writer believes with what is stored.

    Raises:
        Fenced: the epoch, the version or an input position is another; the message has both numbers.
    """
    if stored.epoch == 0:
        raise Fenced(f"cell {cell!r}: nobody took it: call take before append")
    if epoch != stored.epoch:
        raise Fenced(f"cell {cell!r}: epoch {epoch} writes, but the cell was taken with epoch {stored.epoch}")
    if expected != stored.version:
        raise Fenced(f"cell {cell!r}: expected version {expected}, the stream is at {stored.version}")
    for source, (start, _) in advance.items():
        if start != positions.get(source, 0):
            raise Fenced(
                f"cell {cell!r}: input {source!r} would move from {start}, but it is at {positions.get(source, 0)}"
            )


def check_advance(cell: str, advance: Advance) -> None:
    """Refuse an advance that goes backwards: a mistake of the caller, not of another writer.

    Raises:
        ValueError: a source would move back, or below 0.
    """
    for source, (start, to) in advance.items():
        if not 0 <= start <= to:
            raise ValueError(f"cell {cell!r}: input {source!r} cannot move from {start} to {to}")


def moved(positions: Mapping[str, int], advance: Advance) -> dict[str, int]:
    """Return the input positions after `advance`, by source in alphabetical order."""
    after = dict(positions) | {source: to for source, (_, to) in advance.items()}
    return dict(sorted(after.items()))
