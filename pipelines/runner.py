"""The embedded runtime: one process, no broker. A source, a decision service and a watch per cell, bounded queues."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from agent.ports import Clock
from connectors.clock import SystemClock
from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.segment_reading import read_kept, stretches
from connectors.eventlog.segments import SegmentWriter
from connectors.eventlog.sqlite import SqliteStore
from pipelines.config import Configuration
from pipelines.decide import CellService, Storage
from pipelines.hosting import WATCH_S, Folders, HostedCell, Parts, clock_of
from pipelines.intake import KeptIntake
from pipelines.operation.measured import Measured
from pipelines.operator_socket import OperatorSocket
from pipelines.pins import Pins
from schemas.errors import ConfigError
from schemas.plant import Cell
from schemas.samples import Kept


class FolderKeeper(SegmentWriter):
    """A segment writer that can be read back, for recovery."""

    def read(self, *, after: int) -> Iterator[Kept]:
        """Yield what is kept behind `after`, or behind the last hole if that is later."""
        kept = stretches(self.folder, after=after)
        begins_after = kept[-1].first - 1 if kept else 0
        yield from read_kept(self.folder, after=max(after, begins_after))


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
    runtime, measured = Runtime(configuration, folders, clock, store), Measured(store)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        for cell in configuration.plant.cells:
            await _start_cell(runtime, cell, parts, measured, stack)
        operators = OperatorSocket(folders.socket, runtime.services, clock, off_file=folders.off_file)
        await operators.start()
        stack.push_async_callback(operators.close)
        if configuration.settings.http.port:
            await stack.enter_async_context(_telling(runtime, measured))
        yield runtime


def _telling(runtime: Runtime, store: Measured) -> AbstractAsyncContextManager[int]:
    try:
        from pipelines.operation.cells import ToldCells, ToldRun
        from pipelines.operation.server import telling
    except ImportError as error:
        remedy = "Run: pip install 'jidoka[kafka]', or set the port to 0"
        raise ConfigError("jidoka.toml", "http.port", "prometheus_client is not installed", remedy) from error
    settings = runtime.configuration.settings
    cells = ToldCells(settings, runtime.configuration.data, runtime.services, store, runtime.clock)
    return telling(settings.http, ToldRun(cells))


async def _start_cell(
    runtime: Runtime, cell: Cell, parts: Parts, store: Measured, stack: contextlib.AsyncExitStack
) -> None:
    configuration, clock = runtime.configuration, runtime.clock
    pins, blobs = Pins(), FileBlobs(runtime.folders.blobs)
    await pins.recall(runtime.store.read_cell(cell.path))
    segments = configuration.settings.segments
    keeper = FolderKeeper(
        runtime.folders.segments(cell),
        cell=cell.path,
        bytes_max=segments.bytes_max,
        keep_bytes=segments.keep_bytes,
        keep_pinned_bytes=segments.keep_pinned_bytes,
        pins=pins,
    )
    stack.callback(keeper.close)
    service = CellService(
        configuration.rules_for(cell),
        Storage(store, blobs),
        KeptIntake(keeper, blobs, clock),
        clock,
        queue_max=configuration.settings.queue_max,
    )
    service.listeners.append(pins.follow(lambda: keeper.position))
    hosted = HostedCell(configuration, parts, service, clock)
    stack.push_async_callback(hosted.stop)
    await hosted.start(blobs)
    runtime.services[cell.path] = service
    hosted.run([parts.source(cell, service.epoch).run(service.put)])


async def until_failure(runtime: Runtime) -> None:
    """Return never; raise what stopped a cell.

    Raises:
        JidokaError: the failure.
    """
    while runtime.failure is None:
        await asyncio.sleep(WATCH_S / 4)
    raise runtime.failure
