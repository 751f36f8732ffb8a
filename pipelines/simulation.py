"""A cell, its plant and its agent in one process on one virtual clock: hours in seconds, the same at every run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from agent.ports import Blobs, EventStore, Reasoner, Robot
from connectors.clock import VirtualClock
from connectors.eventlog.blobs import MemoryBlobs
from connectors.eventlog.memory import MemoryStore
from connectors.notifiers.command import LogNotifier
from connectors.plant.direct import DirectPlant, DirectRobot
from pipelines.config import Configuration
from pipelines.decide import CellService, Storage
from pipelines.executor import Executor, Machines
from pipelines.intake import KeptIntake
from pipelines.opening import opening_facts
from pipelines.reasoning import Reasoners
from schemas.facts import AnyFact
from schemas.plans import Post
from schemas.samples import Kept

START_US = 1_767_225_600_000_000
"""2026-01-01 00:00 UTC: where simulated time begins unless somebody says otherwise."""


class MemoryKeeper:
    """Keeps a cell's input for as long as the process lives."""

    def __init__(self) -> None:
        self._inputs: list[Kept] = []

    @property
    def position(self) -> int:
        """Of the last input."""
        return len(self._inputs)

    def append(self, kept: Kept) -> bool:
        """Keep; a next segment is never due."""
        self._inputs.append(kept)
        return False

    def sync(self) -> None:
        """Nothing to do: memory is as durable as it gets."""

    def rotate(self) -> None:
        """Nothing to do: there is one segment."""

    def read(self, *, after: int) -> Iterator[Kept]:
        """Yield what is kept behind `after`."""
        yield from self._inputs[after:]


class Simulation:
    """Steps plant and agent in turn."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        seed: int,
        store: EventStore | None = None,
        blobs: Blobs | None = None,
        keeper: MemoryKeeper | None = None,
        plant: DirectPlant | None = None,
        reasoners: Mapping[Post, Reasoner] | None = None,
        wrap_robot: Callable[[Robot], Robot] = lambda robot: robot,
        off_file: Path = Path("/nonexistent/OFF"),
    ) -> None:
        """Prepare. What is given replaces what would be made: a store that outlives a crash, a plant that goes on."""
        cell = configuration.plant.cells[0]
        self.configuration, self.rules = configuration, configuration.rules_for(cell)
        self.clock = plant.clock if plant is not None else VirtualClock(START_US)
        self.plant = plant or DirectPlant(cell, seed, self.clock)
        self.store = store or MemoryStore(clock=self.clock)
        self.blobs = blobs or MemoryBlobs()
        self.keeper = keeper or MemoryKeeper()
        self.service = CellService(
            self.rules,
            Storage(self.store, self.blobs),
            KeptIntake(self.keeper, self.blobs, self.clock),
            self.clock,
            queue_max=10_000,
        )
        robot = wrap_robot(DirectRobot(self.plant))
        self.executor = Executor(
            self.service,
            self.rules,
            self.clock,
            Machines({r.id: robot for r in cell.robots}, off_file, configuration.settings.readback_s),
            reasoners or Reasoners(configuration, embedded=False).of(cell),
            [LogNotifier()],
        )
        self.facts: list[AnyFact] = []
        self.service.listeners.append(self.facts.extend)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Simulation]:
        """Start the agent; stop it at the end."""
        opening = opening_facts(
            self.configuration,
            self.blobs,
            at=self.clock.now_us(),
            mode=self.configuration.settings.mode,
            epoch=0,
            who="simulation",
        )
        await self.service.start(self.executor, opening)
        task = asyncio.create_task(self.service.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            await self.executor.close()

    async def step(self) -> None:
        """Let the plant go on to its next moment and the agent do all that follows from it."""
        moment = next(self.plant.steps())
        for message in moment.inputs:
            await self.service.put(message)
        await self.service.settle()

    async def run_for(self, seconds: float) -> None:
        """Let `seconds` of plant time pass."""
        until = self.clock.now_us() + int(seconds * 1e6)
        while self.clock.now_us() < until:
            await self.step()
