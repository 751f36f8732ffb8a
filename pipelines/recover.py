"""Brings a derivation to where the log ends: fold all facts, restore the last snapshot, re-derive the kept input.

Facts are folded, never concluded anew; only the memory beside the log is rebuilt, by feeding what was fed before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agent.ports import Blobs
from pipelines.derive import Derivation, Item
from schemas.errors import CodecError
from schemas.facts import DetectorSnapshotted
from schemas.observations import Delivered
from schemas.records import Recorded
from schemas.samples import INPUT, Kept

LOG = logging.getLogger("jidoka.recover")

Kind = TypeVar("Kind", Kept, Delivered)


@dataclass(slots=True)
class Recovered:
    """What recovery left to do."""

    behind: Sequence[Item] = field(default_factory=list)
    """Kept inputs whose facts are not in the log yet."""
    cold: str = ""
    """Why the detectors could not go on where they were and warm up again; empty if they could."""
    known: Collection[str] | None = None
    """Episodes that a detection elsewhere still knows; None: detection runs here and is asked."""


def rebuild(
    derivation: Derivation, blobs: Blobs, records: Sequence[Recorded], read: Callable[[int], Iterator[Kept]]
) -> tuple[Lookahead[Kept], str]:
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
    follow(derivation, records[done:], inputs)
    return inputs, cold


def follow(derivation: Derivation, records: Sequence[Recorded], inputs: Lookahead[Kind]) -> None:
    """Fold records, each after the inputs that it was concluded from."""
    for record in records:
        for item in inputs.up_to(record.inputs.get(INPUT, 0)):
            derivation.rebuild(item)
        derivation.fold(record.fact)


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


class Lookahead(Generic[Kind]):
    """Kept inputs, taken up to a position at a time."""

    def __init__(self, inputs: Iterator[Kind]) -> None:
        self._inputs: Iterator[Kind] = inputs
        self._next: Kind | None = next(inputs, None)

    @property
    def position(self) -> int | None:
        """Of the next input; None at the end."""
        return self._next.position if self._next is not None else None

    def up_to(self, position: int) -> Iterator[Kind]:
        """Yield inputs with a position of at most `position`."""
        while self._next is not None and self._next.position <= position:
            item, self._next = self._next, next(self._inputs, None)
            yield item

    def rest(self) -> Iterator[Kind]:
        """Yield all that is left."""
        while self._next is not None:
            item, self._next = self._next, next(self._inputs, None)
            yield item
