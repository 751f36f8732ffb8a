"""The decision service of one cell: one queue, one order, append before any effect.

Every message (an input of the cell, or a fact from outside) is kept, derived from, and its facts are durable in one
append before the wishes that follow from them are handed on. A failure of the log stops the cell: what was derived is
derived again after a restart, from the same input.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from agent.cell import CellState
from agent.effects import Effect, WakeAt, outstanding
from agent.guard.question import Rulebook
from agent.identity import derive
from agent.ports import Blobs, Clock, EventStore
from pipelines.derive import Derivation, Derived
from pipelines.detectors.suite import WATCH
from pipelines.recover import recover
from schemas.errors import LogError
from schemas.facts import AgentStarted, AnyFact, CellTaken, DetectorSnapshotted, OperatorRequested
from schemas.samples import Input, Kept, Tick

LOG = logging.getLogger("jidoka.decide")

INPUT = "input"
"""Name of the cell's one input among the store's positions."""
COLD = "cold"
"""Part of the identity of the request by which an agent whose detectors warm up again switches its automation off."""

AGENT = "agent"
"""Source of input that the executor gives; all but it and `WATCH` is the plant."""


class Fulfiller(Protocol):
    """Makes wishes come true and brings the results back as facts."""

    on_failure: Callable[[BaseException], None]
    """Called with what a wish raised."""

    def fulfil(self, effects: Sequence[Effect]) -> None:
        """Start; must not block."""

    def keep_wakes(self, wake_ids: frozenset[str]) -> None:
        """Forget the wake-ups that are no longer wished for."""

    @property
    def busy(self) -> int:
        """Wishes under way, sleepers not counted."""


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


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a cell writes."""

    store: EventStore
    blobs: Blobs
    keeper: Keeper


class CellService:
    """Runs one cell until it is stopped or its log fails."""

    def __init__(self, rules: Rulebook, storage: Storage, clock: Clock, *, queue_max: int) -> None:
        self.derivation = Derivation(rules)
        self.cell = rules.cell.path
        self._rules, self._storage, self._clock = rules, storage, clock
        self._queue: asyncio.Queue[Input | AnyFact] = asyncio.Queue(queue_max)
        self._writing = asyncio.Lock()
        self._version = self.epoch = 0
        self._processing = False
        self._kept_in_store = 0
        self._fulfiller: Fulfiller | None = None
        self.failed: BaseException | None = None
        self.listeners: list[Callable[[Sequence[AnyFact]], None]] = []
        """Called with the facts of each append once they are durable."""
        self.last_input_us = 0
        """Agent time of the last input that was decided upon."""
        self.last_heard_us = 0
        """Agent time of the last input from the cell's own source."""

    @property
    def state(self) -> CellState:
        """The present state."""
        return self.derivation.state

    async def start(self, fulfiller: Fulfiller, opening: Iterable[AnyFact]) -> None:
        """Take the cell, fold its log, say that we are here, and catch up with the kept input.

        Args:
            fulfiller: Gets every wish, those left from before too.
            opening: Facts to begin with; `agent.started/1` gets our epoch.
        """
        self._fulfiller = fulfiller
        fulfiller.on_failure = self.fail
        taken = await self._storage.store.take(self.cell)
        self.epoch, self._version = taken.epoch, taken.version
        self._kept_in_store = taken.positions.get(INPUT, 0)
        if (kept_n := self._storage.keeper.position) < self._kept_in_store:
            raise LogError(
                f"{self.cell}: the log was concluded from {self._kept_in_store} inputs and {kept_n} are kept: "
                "restore the folder segments/ from a backup, or begin with a new data folder"
            )
        recovered = await recover(self.derivation, self._storage, self.cell, self._kept_in_store)
        # First who decides from here on and by what, then what follows from input that nobody concluded from yet.
        await self._open(opening, recovered.cold)
        for kept in recovered.behind:
            await self._write(self.derivation.feed_input(kept), kept.position, start=False)
        if recovered.cold:
            await self._rotate()
        fulfiller.fulfil(tuple(outstanding(self.state, self._rules.policy).values()))

    async def _open(self, opening: Iterable[AnyFact], cold: str) -> None:
        """Append the opening facts as one."""
        said = Derived()
        for fact in opening:
            if isinstance(fact, AgentStarted):
                fact = msgspec.structs.replace(fact, epoch=self.epoch)
            said.facts += self.derivation.feed_fact(fact).facts
        if cold:
            off = OperatorRequested(
                at=self._clock.now_us(),
                request_id=derive(self.cell, COLD, str(self.epoch)),
                who=AGENT,
                kind="off",
                reason=cold,
            )
            said.facts += self.derivation.feed_fact(off).facts
        await self._write(said, self._kept_in_store, start=False)

    async def put(self, message: Input | AnyFact) -> None:
        """Hand over the next message; waits while the queue is full."""
        await self._queue.put(message)

    async def run(self) -> None:
        """Process messages for ever.

        Raises:
            Fenced: another process took the cell.
            LogHalted: the disk failed.
        """
        try:
            while True:
                message = await self._queue.get()
                if self.failed is not None:
                    raise self.failed
                self._processing = True
                await self.process(message)
                self._processing = False
        except BaseException as error:
            self.failed = error
            raise
        finally:
            self._processing = False

    def fail(self, error: BaseException) -> None:
        """Stop the cell: something that follows from its facts could not even be tried. A restart wishes it again."""
        LOG.error("cell %s: a wish failed: %r", self.cell, error)
        self.failed = self.failed or error

    async def process(self, message: Input | AnyFact) -> None:
        """Keep, derive, append, wish."""
        keeper = self._storage.keeper
        if not isinstance(message, Input):
            await self._write(self.derivation.feed_fact(message), keeper.position, start=True)
            return
        kept = Kept(keeper.position + 1, self._clock.now_us(), message)
        due = keeper.append(kept)
        if message.source not in (WATCH, AGENT):
            self.last_heard_us = kept.at_us
        if isinstance(message, Tick):
            keeper.sync()
        await self._write(self.derivation.feed_input(kept), kept.position, start=True)
        self.last_input_us = kept.at_us
        if due:
            await self._rotate()

    async def _write(self, derived: Derived, position: int, *, start: bool) -> None:
        if derived.facts:
            self._storage.keeper.sync()
            for data in derived.blobs.values():
                self._storage.blobs.put(data)
            async with self._writing:
                await self._append(derived.facts, position)
        assert self._fulfiller is not None, "start() comes first"
        if start and derived.effects:
            self._fulfiller.fulfil(derived.effects)
        if derived.facts:
            wishes = outstanding(self.state, self._rules.policy).values()
            self._fulfiller.keep_wakes(frozenset(w.wake_id for w in wishes if isinstance(w, WakeAt)))

    async def _append(self, facts: Sequence[AnyFact], position: int) -> None:
        appended = await self._storage.store.append(
            self.cell,
            facts,
            expected=self._version,
            advance={INPUT: (self._kept_in_store, position)},
            epoch=self.epoch,
        )
        self._version, self._kept_in_store = appended.version, position
        for listener in self.listeners:
            listener(facts)

    async def _rotate(self) -> None:
        """Begin a segment that replay can start from."""
        position = self._storage.keeper.position
        sha256 = self._storage.blobs.put(self.derivation.snapshot())
        fact = DetectorSnapshotted(at=self._clock.now_us(), position=position, sha256=sha256)
        await self._write(self.derivation.feed_fact(fact), position, start=True)
        # Last, since it deletes what the snapshot before this one needs.
        self._storage.keeper.rotate()

    async def raise_epoch(self, reason: str) -> int:
        """Fence everything sent so far; returns the new epoch."""
        async with self._writing:
            self.epoch = (await self._storage.store.take(self.cell)).epoch
        await self.put(CellTaken(at=self._clock.now_us(), epoch=self.epoch, reason=reason))
        return self.epoch

    @property
    def idle(self) -> bool:
        """Whether nothing waits, nothing is processed and no wish but sleepers is under way."""
        busy = self._fulfiller.busy if self._fulfiller is not None else 0
        return self._queue.empty() and not self._processing and busy == 0

    async def settle(self) -> None:
        """Return once idle: for time that only a simulation moves."""
        while not self.idle:
            if self.failed is not None:
                raise self.failed
            await asyncio.sleep(0)
