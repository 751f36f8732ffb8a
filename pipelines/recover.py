"""Brings a derivation to where the log ends: fold all facts, restore the last snapshot, re-derive the kept input.

Facts are folded, never concluded anew; only the detectors' memory is rebuilt, by feeding them what they were fed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.derive import Derivation
from schemas.errors import CodecError
from schemas.facts import DetectorSnapshotted
from schemas.records import Recorded
from schemas.samples import Kept

if TYPE_CHECKING:
    from pipelines.decide import Storage

LOG = logging.getLogger("jidoka.recover")


@dataclass(slots=True)
class Recovered:
    """What recovery left to do."""

    behind: list[Kept] = field(default_factory=list)
    """Kept inputs whose facts are not in the log yet."""
    cold: str = ""
    """Why the detectors could not go on where they were and warm up again; empty if they could."""


async def recover(derivation: Derivation, storage: Storage, cell: str, until: int) -> Recovered:
    """Rebuild up to input position `until`.

    Raises:
        LogCorrupt: a stored record, blob or segment does not verify.
    """
    records = [record async for record in storage.store.read_cell(cell)]
    first, recovered = restore_latest(derivation, storage, records)
    inputs = Lookahead(storage.keeper.read(after=first))
    if (begins := inputs.position) is not None and begins != first + 1:
        recovered.cold = f"kept input begins at {begins}, not at {first + 1}: the detectors warm up again"
    for record in records[derivation_start(records, first) :]:
        for kept in inputs.up_to(record.inputs.get("input", 0)):
            derivation.rebuild(kept)
        derivation.fold(record.fact)
    for kept in inputs.up_to(until):
        derivation.rebuild(kept)
    recovered.behind = list(inputs.rest())
    return recovered


def restore_latest(
    derivation: Derivation, storage: Storage, records: list[Recorded], *, at_most: int | None = None
) -> tuple[int, Recovered]:
    """Restore the newest usable snapshot, folding the facts up to it; returns its input position (0: none)."""
    recovered = Recovered()
    for index in range(len(records) - 1, -1, -1):
        fact = records[index].fact if records[index].type == "detector.snapshotted/1" else None
        if not isinstance(fact, DetectorSnapshotted) or (at_most is not None and fact.position > at_most):
            continue
        try:
            data = storage.blobs.get(fact.sha256)
            Derivation(derivation.rules).restore(data)
        except (CodecError, KeyError) as error:
            recovered.cold = f"the detectors' snapshot at input {fact.position} cannot be used ({error})"
            LOG.warning("%s", recovered.cold)
            continue
        for record in records[: index + 1]:
            derivation.fold_state(record.fact)
        derivation.restore(data)
        return fact.position, recovered
    return 0, recovered


def derivation_start(records: list[Recorded], snapshot_position: int) -> int:
    """Return the index of the first record behind the snapshot at this input position; 0 without one."""
    for index in range(len(records) - 1, -1, -1):
        fact = records[index].fact if records[index].type == "detector.snapshotted/1" else None
        if isinstance(fact, DetectorSnapshotted) and fact.position == snapshot_position:
            return index + 1
    return 0


class Lookahead:
    """Kept inputs, taken up to a position at a time."""

    def __init__(self, inputs: Iterator[Kept]) -> None:
        self._inputs = inputs
        self._next = next(inputs, None)

    @property
    def position(self) -> int | None:
        """Of the next input; None at the end."""
        return self._next.position if self._next is not None else None

    def up_to(self, position: int) -> Iterator[Kept]:
        """Yield inputs with a position of at most `position`."""
        while self._next is not None and self._next.position <= position:
            kept, self._next = self._next, next(self._inputs, None)
            yield kept

    def rest(self) -> Iterator[Kept]:
        """Yield all that is left."""
        while self._next is not None:
            kept, self._next = self._next, next(self._inputs, None)
            yield kept
