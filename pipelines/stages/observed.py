"""The intake of a decision service whose detection runs elsewhere: observations, in order, each once.

The topic keeps them; the store says how far they were decided upon. After a start only the verifier's counts are beside
the log: they are counted again from where the oldest open verification began.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from agent.cell import CellState, apply
from agent.ports import Blobs
from pipelines.derive import Derivation
from pipelines.recover import Lookahead, Recovered, follow
from schemas.errors import LogError
from schemas.facts import ReadbackTaken
from schemas.observations import BEGUN, OFFSET, Delivered
from schemas.records import Recorded
from schemas.samples import INPUT, Input

Fetch = Callable[[int, int], Awaitable[Sequence[Delivered]]]
"""Gives a cell's observations from one offset up to another, that one excluded."""


class Acceptance:
    """Tells an observation that goes on from the last one from one that does not."""

    def __init__(self, stored: Mapping[str, int]) -> None:
        self.position = stored.get(INPUT, 0)
        self.begun_at = stored.get(BEGUN, 0)
        self.broken = ""
        """Why the last one that was accepted does not go on from the one before; empty if it does."""
        self.replaced = False
        """Whether that is because it comes from other detectors, which know none of the open episodes."""

    def accepts(self, delivered: Delivered) -> bool:
        """Take one; false: it was taken before, or comes from detectors that have been replaced."""
        self.broken, self.replaced, observation = "", False, delivered.observation
        if observation.begun_at < self.begun_at or observation.position <= self.position:
            return False
        if 0 < self.begun_at < observation.begun_at:
            self.broken, self.replaced = f"the detectors began anew at input {observation.position}", True
        elif self.begun_at and observation.after > self.position:
            self.broken = f"what detection said of inputs {self.position + 1} to {observation.after} is lost"
        self.position, self.begun_at = observation.position, observation.begun_at
        return True


class ObservedIntake:
    """Takes observations for one cell."""

    def __init__(self, blobs: Blobs, fetch: Fetch) -> None:
        self._blobs, self._fetch = blobs, fetch
        self._acceptance = Acceptance({})
        self._open_episodes: Callable[[], Iterable[str]] = tuple
        self._last: Delivered | None = None

    async def recover(
        self, derivation: Derivation, records: Sequence[Recorded], stored: Mapping[str, int]
    ) -> Recovered:
        """Fold the log, and count again what counts for effects that are still being verified."""
        self._acceptance = Acceptance(stored)
        self._open_episodes = lambda: derivation.state.episodes
        begin = _oldest_verification(records, derivation.rules.cell.path)
        if begin is None:
            for record in records:
                derivation.fold(record.fact)
        else:
            past = await self._fetch(records[begin].inputs.get(OFFSET, 0), stored.get(OFFSET, 0))
            for record in records[:begin]:
                derivation.fold_state(record.fact)
            again = _accepted(past, Acceptance(records[begin].inputs))
            follow(derivation, records[begin:], Lookahead(again))
        return Recovered(known=frozenset(derivation.state.episodes))

    def accept(self, message: Input | Delivered) -> Delivered | None:
        """Take the next observation; None if it was taken before, or nobody asked for it any more."""
        assert isinstance(message, Delivered), "input goes to detection"
        self._last = message if self._acceptance.accepts(message) else None
        return self._last

    def anew(self) -> Recovered | None:
        """Return how to open once more when the last observation does not go on from the one before."""
        acceptance = self._acceptance
        if not acceptance.broken or self._last is None:
            return None
        return Recovered(cold=acceptance.broken, known=() if acceptance.replaced else tuple(self._open_episodes()))

    def sync(self) -> None:
        """Nothing to do: the topic has them."""

    def due(self) -> bool:
        """Whether detection handed on its memory with the last observation."""
        return self._last is not None and self._last.observation.snapshot != ""

    def snapshot(self, derivation: Derivation) -> bytes:
        """Return that memory with the verifier's."""
        assert self._last is not None, "a snapshot is due with an observation"
        try:
            return derivation.snapshot_with(self._blobs.get(self._last.observation.snapshot))
        except KeyError as error:
            raise LogError(f"blob {error.args[0]} is gone: restore the blobs from a backup") from error

    def rotate(self) -> None:
        """Nothing to do: the topic's retention decides."""


def _accepted(past: Iterable[Delivered], acceptance: Acceptance) -> Iterator[Delivered]:
    return (delivered for delivered in past if acceptance.accepts(delivered))


def _oldest_verification(records: Sequence[Recorded], cell: str) -> int | None:
    """Return the index of the record with which the oldest verification began that is still open."""
    state = CellState(cell)
    began: dict[str, int] = {}
    for index, record in enumerate(records):
        fact = record.fact
        state = apply(state, fact)
        if isinstance(fact, ReadbackTaken):
            began[fact.command_id] = index
    waiting = [began[key] for key, c in state.commands.items() if c.phase == "verifying" and key in began]
    return min(waiting, default=None)
