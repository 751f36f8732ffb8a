"""How a cell's decision service takes its input: kept by itself before it is used, or kept elsewhere already.

`KeptIntake` is that of the embedded runtime; `pipelines.stages.observed` has the one for Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from agent.ports import Blobs, Clock
from pipelines.derive import Derivation, Item
from pipelines.recover import Recovered, rebuild
from schemas.errors import LogError
from schemas.observations import Delivered
from schemas.records import Recorded
from schemas.samples import INPUT, Input, Kept, Tick


class Intake(Protocol):
    """Takes what arrives for one cell, in order."""

    async def recover(
        self, derivation: Derivation, records: Sequence[Recorded], stored: Mapping[str, int]
    ) -> Recovered:
        """Bring a fresh derivation to where the log ends.

        Args:
            derivation: Fresh, with the rules of now.
            records: The cell's, from the first.
            stored: Its positions in the store.

        Raises:
            LogError: what the log was concluded from is not kept.
        """

    def accept(self, message: Input | Delivered) -> Item | None:
        """Keep the next message; None if it had been taken before."""

    def anew(self) -> Recovered | None:
        """Return how to open once more before what was accepted last; None: it goes on from what was before it."""

    def sync(self) -> None:
        """Make everything accepted durable."""

    def due(self) -> bool:
        """Whether a snapshot is due after what was accepted last."""

    def snapshot(self, derivation: Derivation) -> bytes:
        """Return the memory beside the log after what was accepted last."""

    def rotate(self) -> None:
        """Begin what the last snapshot is the start of; what only earlier ones need may go."""


class Keeper(Protocol):
    """Keeps the cell's input before it is used."""

    @property
    def position(self) -> int:
        """Of the last input kept."""

    def append(self, kept: Kept) -> bool:
        """Keep; returns whether the next segment is due."""

    def sync(self) -> None:
        """Make everything kept durable."""

    def rotate(self) -> None:
        """Begin the next segment."""

    def read(self, *, after: int) -> Iterator[Kept]:
        """Yield what is kept behind position `after`, or behind the last hole in it if that is later, in order."""


class KeptIntake:
    """Numbers the input, gives it its time, and keeps it."""

    def __init__(self, keeper: Keeper, blobs: Blobs, clock: Clock) -> None:
        self._keeper, self._blobs, self._clock = keeper, blobs, clock
        self._due = False

    async def recover(
        self, derivation: Derivation, records: Sequence[Recorded], stored: Mapping[str, int]
    ) -> Recovered:
        """Rebuild detectors and verifier from the last snapshot and the kept input behind it."""
        until = stored.get(INPUT, 0)
        if self._keeper.position < until:
            raise LogError(
                f"the log was concluded from {until} inputs and {self._keeper.position} are kept: "
                "restore the folder segments/ from a backup, or begin with a new data folder"
            )
        inputs, cold = rebuild(derivation, self._blobs, records, lambda after: self._keeper.read(after=after))
        for kept in inputs.up_to(until):
            derivation.rebuild(kept)
        return Recovered(list(inputs.rest()), cold)

    def accept(self, message: Input | Delivered) -> Kept:
        """Keep the next input; every one is new."""
        assert not isinstance(message, Delivered), "observations come to a service whose detection runs elsewhere"
        kept = Kept(self._keeper.position + 1, self._clock.now_us(), message)
        self._due = self._keeper.append(kept)
        if isinstance(message, Tick):
            self._keeper.sync()
        return kept

    def anew(self) -> None:
        """Return None: the detectors of this process live as long as its service."""

    def sync(self) -> None:
        """Make everything accepted durable."""
        self._keeper.sync()

    def due(self) -> bool:
        """Whether the present segment is full."""
        return self._due

    def snapshot(self, derivation: Derivation) -> bytes:
        """Return the memory of detectors and verifier."""
        return derivation.snapshot()

    def rotate(self) -> None:
        """Begin the next segment."""
        self._keeper.rotate()
