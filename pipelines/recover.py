"""Brings a derivation to where the log ends: fold all facts, restore the last snapshot, re-derive the kept input.

Facts are folded, never concluded anew; only the detectors' memory is rebuilt, by feeding them what they were fed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.ports import Blobs
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
    inputs, cold = rebuild(derivation, storage.blobs, records, lambda after: storage.keeper.read(after=after))
    for kept in inputs.up_to(until):
        derivation.rebuild(kept)
    return Recovered(list(inputs.rest()), cold)


def rebuild(
    derivation: Derivation, blobs: Blobs, records: Sequence[Recorded], read: Callable[[int], Iterator[Kept]]
) -> tuple[Lookahead, str]:
    """Bring a fresh derivation to the end of `records`.

    Args:
        derivation: Fresh, with the rules of now.
        blobs: Where snapshots lie.
        records: One cell's, from the first.
        read: Gives the kept input behind a position.

    Returns:
        The kept input that is left, and why the detectors warm up again (empty: they go on where they were).
    """
    snapshot, cold = usable_snapshot(derivation, blobs, records)
    first = snapshot.position + 1 if snapshot is not None else 1
    inputs = Lookahead(read(first - 1))
    if inputs.position not in (first, None):
        snapshot, cold = None, cold or f"kept input begins at {inputs.position}, not at {first}"
    elif first == 1:
        cold = ""  # All input from the first on: what was learnt is learnt again to the bit.
    if cold and snapshot is None:
        LOG.warning("%s: the detectors warm up again", cold)
    done = 0
    if snapshot is not None:
        done, cold = snapshot.index + 1, ""
        for record in records[:done]:
            derivation.fold_state(record.fact)
        derivation.restore(snapshot.data)
    for record in records[done:]:
        for kept in inputs.up_to(record.inputs.get("input", 0)):
            derivation.rebuild(kept)
        derivation.fold(record.fact)
    return inputs, cold


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where detectors can go on from."""

    index: int
    """Of its record."""
    position: int
    """Of the last input before it."""
    data: bytes


def usable_snapshot(derivation: Derivation, blobs: Blobs, records: Sequence[Recorded]) -> tuple[Snapshot | None, str]:
    """Return the newest snapshot that this code and configuration can go on from."""
    cold = ""
    for index in range(len(records) - 1, -1, -1):
        if records[index].type != "detector.snapshotted/1":
            continue
        fact = records[index].fact
        assert isinstance(fact, DetectorSnapshotted)
        try:
            data = blobs.get(fact.sha256)
            Derivation(derivation.rules).restore(data)
        except (CodecError, KeyError) as error:
            cold = cold or f"the detectors' snapshot at input {fact.position} cannot be used ({error})"
            continue
        return Snapshot(index, fact.position, data), cold
    return None, cold


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
