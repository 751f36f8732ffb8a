"""The embedded runtime: one process, no broker. A source, a decision service and a watch per cell, bounded queues.

What fulfils the wishes is handed in: `pipelines.observe` gives something that reaches no machine, `pipelines.act`
something that does. This module knows neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.guard.question import Rulebook
from agent.ports import Clock
from connectors.clock import ScaledClock, SystemClock
from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.segments import SegmentWriter, read_kept, stretches
from connectors.eventlog.sqlite import SqliteStore
from pipelines.advising import Advisor
from pipelines.config import Configuration
from pipelines.decide import CellService, Storage
from pipelines.intake import KeptIntake
from pipelines.opening import opening_facts
from pipelines.operator_socket import OperatorSocket
from pipelines.pins import Pins
from schemas.facts import SourceSilent
from schemas.plant import Cell
from schemas.samples import WATCH, Input, Kept, Tick
from schemas.settings import Settings

LOG = logging.getLogger("jidoka.runner")

WATCH_S = 1.0
"""Wall time between two looks at whether a cell still hears anything."""


class Source(Protocol):
    """Delivers the ordered input of one cell."""

    async def run(self, sink: Callable[[Input], Awaitable[None]]) -> None:
        """Give every input to `sink`, for ever or until the source ends."""


MakeSource = Callable[[Cell, int], Source]
"""From the cell and the epoch that its source must bear."""
MakeFulfiller = Callable[[CellService, Rulebook], Advisor]
Companion = Callable[[CellService], Awaitable[None]]
"""Something else that runs beside a cell for as long as it runs, e.g. a robot's session or the heartbeat."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where everything of one agent lies."""

    data: Path

    @property
    def log(self) -> Path:
        """Event store with its head and keys."""
        return self.data / "log"

    @property
    def blobs(self) -> Path:
        """Configuration files, calibrations, snapshots."""
        return self.data / "blobs"

    @property
    def off_file(self) -> Path:
        """While it exists, nothing is sent."""
        return self.data / "OFF"

    @property
    def socket(self) -> Path:
        """The operator's way in."""
        return self.data / "operator.sock"

    def segments(self, cell: Cell) -> Path:
        """Kept input of one cell."""
        return self.data / "segments" / cell.id


class FolderKeeper(SegmentWriter):
    """A segment writer that can be read back, for recovery."""

    def read(self, *, after: int) -> Iterator[Kept]:
        """Yield what is kept behind `after`, or behind the last hole if that is later."""
        kept = stretches(self.folder)
        begins_after = kept[-1].first - 1 if kept else 0
        yield from read_kept(self.folder, after=max(after, begins_after))


@dataclass(slots=True)
class Parts:
    """What one mode of running is made of."""

    source: MakeSource
    fulfiller: MakeFulfiller
    companions: list[Companion] = field(default_factory=list)


@dataclass(slots=True)
class Runtime:
    """A running agent."""

    configuration: Configuration
    folders: Folders
    clock: Clock
    store: SqliteStore
    services: dict[str, CellService] = field(default_factory=dict)
    """By cell path."""

    @property
    def failure(self) -> BaseException | None:
        """Why a cell stopped, if one did."""
        return next((s.failed for s in self.services.values() if s.failed is not None), None)


def clock_of(settings: Settings) -> SystemClock | ScaledClock:
    """Return the agent's clock."""
    if settings.clock.speed == 1.0 and settings.clock.origin_us == 0:
        return SystemClock()
    return ScaledClock(settings.clock.origin_us, settings.clock.speed)


@asynccontextmanager
async def running(configuration: Configuration, parts: Parts) -> AsyncIterator[Runtime]:
    """Run an agent; everything is closed in order at the end.

    Raises:
        LogError: another writer has the log, or it does not open.
        LogCorrupt: what is stored does not verify.
    """
    folders = Folders(configuration.data)
    clock = clock_of(configuration.settings)
    store = SqliteStore.open(folders.log, clock=SystemClock())
    runtime = Runtime(configuration, folders, clock, store)
    tasks: list[asyncio.Task[None]] = []
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        for cell in configuration.plant.cells:
            tasks += await _start_cell(runtime, cell, parts, stack)
        operators = OperatorSocket(folders.socket, runtime.services, clock, off_file=folders.off_file)
        await operators.start()
        stack.push_async_callback(operators.close)
        stack.push_async_callback(_stop, tasks)
        yield runtime


async def _start_cell(
    runtime: Runtime, cell: Cell, parts: Parts, stack: contextlib.AsyncExitStack
) -> list[asyncio.Task[None]]:
    configuration, clock = runtime.configuration, runtime.clock
    pins, blobs = Pins(), FileBlobs(runtime.folders.blobs)
    await pins.recall(runtime.store.read_cell(cell.path))
    segments = configuration.settings.segments
    keeper = FolderKeeper(
        runtime.folders.segments(cell),
        cell=cell.path,
        bytes_max=segments.bytes_max,
        keep_bytes=segments.keep_bytes,
        pins=pins,
    )
    stack.callback(keeper.close)
    rules = configuration.rules_for(cell)
    service = CellService(
        rules,
        Storage(runtime.store, blobs),
        KeptIntake(keeper, blobs, clock),
        clock,
        queue_max=configuration.settings.queue_max,
    )
    service.listeners.append(pins.follow(lambda: keeper.position))
    fulfiller = parts.fulfiller(service, rules)
    stack.push_async_callback(fulfiller.close)
    opening = opening_facts(
        configuration, blobs, at=clock.now_us(), mode=configuration.settings.mode, epoch=0, who=getpass.getuser()
    )
    await service.start(fulfiller, opening)
    runtime.services[cell.path] = service
    source = parts.source(cell, service.epoch)
    work: list[Awaitable[None]] = [
        service.run(),
        source.run(service.put),
        _watch(service, clock, configuration.settings.silent_s * configuration.settings.clock.speed),
        *(companion(service) for companion in parts.companions),
    ]
    return [asyncio.ensure_future(_kept_in_sight(service, each)) for each in work]


async def _kept_in_sight(service: CellService, work: Awaitable[None]) -> None:
    """Run; a failure of any part is the cell's failure, and its automation stops with it."""
    try:
        await work
    except Exception as error:  # the top of a cell: recorded, and the cell's automation ends
        LOG.error("cell %s stopped: %s", service.cell, error)
        service.failed = service.failed or error
        raise


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(service: CellService, clock: Clock, silent_s: float) -> None:
    """Declare the source lost when not even a tick came for `silent_s` of agent time: only this clock can know."""
    told = False
    began_us = clock.now_us()
    while True:
        await asyncio.sleep(WATCH_S)
        now_us = clock.now_us()
        quiet_s = (now_us - max(service.last_heard_us, began_us)) / 1e6
        if quiet_s > silent_s and not told:
            told = True
            await service.put(SourceSilent(at=now_us, source=service.cell, silent_s=round(quiet_s, 3)))
            await service.put(Tick(WATCH, service.epoch, 0, complete_until=0, alive=False))
        elif quiet_s <= silent_s:
            told = False


async def until_failure(runtime: Runtime) -> None:
    """Return never; raise what stopped a cell.

    Raises:
        JidokaError: the failure.
    """
    while runtime.failure is None:
        await asyncio.sleep(WATCH_S / 4)
    raise runtime.failure
