"""The decision service of one cell: one queue, one order, append before any effect.

Every message (an input of the cell, or a fact from outside) is accepted, derived from, and its facts are durable in one
append before the wishes that follow from them are handed on. A failure of the log stops the cell: what was derived is
derived again after a restart, from the same input.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from agent.cell import CellState
from agent.effects import Effect, WakeAt, outstanding
from agent.guard.question import Rulebook
from agent.identity import derive
from agent.ports import Blobs, Clock, EventStore
from pipelines.derive import Derivation, Derived, Item
from pipelines.intake import Intake
from pipelines.log_lines import about
from pipelines.recover import Recovered
from pipelines.subjects import subject_of
from schemas.errors import LogCorrupt, LogError
from schemas.facts import AgentStarted, AnyFact, CellTaken, DetectorSnapshotted, OperatorRequested
from schemas.observations import Delivered
from schemas.samples import AGENT, INPUT, WATCH, Input

LOG = logging.getLogger("jidoka.decide")

COLD = "cold"
"""Part of the identity of the request by which an agent whose detectors warm up again switches its automation off."""


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


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a cell writes."""

    store: EventStore
    blobs: Blobs


Message = Input | Delivered | AnyFact
"""What a cell's service is handed: input, or observations where detection runs elsewhere, and facts from outside."""


class CellService:
    """Runs one cell until it is stopped or its log fails."""

    def __init__(self, rules: Rulebook, storage: Storage, intake: Intake, clock: Clock, *, queue_max: int) -> None:
        self.derivation = Derivation(rules)
        self.cell = rules.cell.path
        self._rules, self._storage, self._intake, self._clock = rules, storage, intake, clock
        self._queue: asyncio.Queue[Message] = asyncio.Queue(queue_max)
        self._writing = asyncio.Lock()
        self._version = self.epoch = 0
        self._processing = False
        self._stored: dict[str, int] = {}
        """Positions in the store."""
        self._places: Mapping[str, int] = {}
        """Positions of what was accepted last."""
        self._fulfiller: Fulfiller | None = None
        self.failed: BaseException | None = None
        self.listeners: list[Callable[[Sequence[AnyFact]], None]] = []
        """Called with the facts of each append once they are durable."""
        self.outlet: Callable[[Input], Awaitable[None]] | None = None
        """Where input of our own goes if detection runs elsewhere: it comes back as an observation."""
        self.last_input_us = 0
        """Agent time of the last input that was decided upon."""
        self.last_heard_us = 0
        """Agent time of the last input from the cell's own source."""

    @property
    def state(self) -> CellState:
        """The present state."""
        return self.derivation.state

    @property
    def waiting_n(self) -> int:
        """Messages in the queue."""
        return self._queue.qsize()

    @property
    def places(self) -> Mapping[str, int]:
        """How far the input has been taken, by what the store calls it."""
        return self._places

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
        self._stored = dict(taken.positions)
        self._places = {INPUT: 0} | dict(taken.positions)
        records = [record async for record in self._storage.store.read_cell(self.cell)]
        try:
            recovered = await self._intake.recover(self.derivation, records, taken.positions)
        except LogCorrupt:
            raise
        except LogError as error:
            raise LogError(f"{self.cell}: {error}") from error
        # First who decides from here on and by what, then what follows from input that nobody concluded from yet.
        await self._open(opening, recovered)
        for item in recovered.behind:
            self._places = item.places
            await self._write(self.derivation.feed(item), start=False)
        if recovered.cold:
            await self._rotate()
        self._wish(tuple(outstanding(self.state, self._rules.policy).values()))

    async def _open(self, opening: Iterable[AnyFact], recovered: Recovered) -> None:
        """Append the opening facts as one."""
        said = Derived()
        for fact in opening:
            if isinstance(fact, AgentStarted):
                fact = self._started = msgspec.structs.replace(fact, epoch=self.epoch)
            said.facts += self.derivation.feed_fact(fact, known=recovered.known).facts
        if recovered.cold:
            off = OperatorRequested(
                at=self._clock.now_us(),
                request_id=derive(self.cell, COLD, str(self.epoch)),
                who=AGENT,
                kind="off",
                reason=recovered.cold,
            )
            said.facts += self.derivation.feed_fact(off).facts
        await self._write(said, start=False)

    async def put(self, message: Message) -> None:
        """Hand over the next message; waits while the queue is full."""
        if self.outlet is not None and isinstance(message, Input):
            await self.outlet(message)
        else:
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

    async def process(self, message: Message) -> None:
        """Accept, derive, append, wish."""
        if not isinstance(message, Input | Delivered):
            await self._write(self.derivation.feed_fact(message), start=True)
            return
        item = self._intake.accept(message)
        if item is None:
            return
        if item.source not in (WATCH, AGENT):
            self.last_heard_us = item.at_us
        await self._write_item(item)
        self.last_input_us = item.at_us
        if self._intake.due():
            await self._rotate()

    async def _write_item(self, item: Item) -> None:
        if (anew := self._intake.anew()) is not None:
            await self._open_again(anew)
        self._places = item.places
        await self._write(self.derivation.feed(item), start=True)

    async def _open_again(self, anew: Recovered) -> None:
        """Begin once more with automation off: what detection said no longer goes on from what it said before."""
        LOG.warning("%s: %s", self.cell, anew.cold)
        async with self._writing:
            self.epoch = (await self._storage.store.take(self.cell)).epoch
        await self._open([msgspec.structs.replace(self._started, at=self._clock.now_us())], anew)

    async def _write(self, derived: Derived, *, start: bool) -> None:
        if derived.facts:
            self._intake.sync()
            for data in derived.blobs.values():
                self._storage.blobs.put(data)
            async with self._writing:
                await self._append(derived.facts)
        if start and derived.effects:
            self._wish(derived.effects)
        if derived.facts:
            assert self._fulfiller is not None, "start() comes first"
            wishes = outstanding(self.state, self._rules.policy).values()
            self._fulfiller.keep_wakes(frozenset(w.wake_id for w in wishes if isinstance(w, WakeAt)))

    def _wish(self, effects: Sequence[Effect]) -> None:
        """Hand on; what is logged on the way says which incident and command it is about."""
        assert self._fulfiller is not None, "start() comes first"
        for effect in effects:
            with about(cell=self.cell, **subject_of(effect, self.state)):
                self._fulfiller.fulfil((effect,))

    async def _append(self, facts: Sequence[AnyFact]) -> None:
        advance = {name: (self._stored.get(name, 0), to) for name, to in self._places.items()}
        appended = await self._storage.store.append(
            self.cell, facts, expected=self._version, advance=advance, epoch=self.epoch
        )
        self._version = appended.version
        self._stored |= self._places
        for listener in self.listeners:
            listener(facts)

    async def _rotate(self) -> None:
        """Begin a segment that replay can start from."""
        sha256 = self._storage.blobs.put(self._intake.snapshot(self.derivation))
        fact = DetectorSnapshotted(at=self._clock.now_us(), position=self._places.get(INPUT, 0), sha256=sha256)
        await self._write(self.derivation.feed_fact(fact), start=True)
        # Last, since it deletes what the snapshot before this one needs.
        self._intake.rotate()

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
