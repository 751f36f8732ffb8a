"""Runs one cell's decision service with all that belongs beside it, and stops it in order. Both runtimes host cells so.

What fulfils the wishes is handed in: `pipelines.observe` gives something that reaches no machine, `pipelines.act`
something that does. This module knows neither.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.guard.question import Rulebook
from agent.ports import Blobs, Clock
from connectors.clock import ScaledClock, SystemClock
from pipelines.advising import Advisor
from pipelines.config import Configuration
from pipelines.decide import CellService
from pipelines.log_lines import about
from pipelines.opening import opening_facts
from schemas.facts import SourceSilent
from schemas.plant import Cell
from schemas.samples import WATCH, Input, Tick
from schemas.settings import Settings

LOG = logging.getLogger("jidoka.hosting")

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

    @property
    def states(self) -> Path:
        """The detectors' memory, where detection runs in processes of its own."""
        return self.data / "states.sqlite"

    @property
    def spool(self) -> Path:
        """What was collected and is not yet on the topic."""
        return self.data / "spool"

    def segments(self, cell: Cell) -> Path:
        """Kept input of one cell."""
        return self.data / "segments" / cell.id


@dataclass(slots=True)
class Parts:
    """What one mode of running is made of."""

    source: MakeSource
    fulfiller: MakeFulfiller
    companions: list[Companion] = field(default_factory=list)


def clock_of(settings: Settings) -> SystemClock | ScaledClock:
    """Return the agent's clock."""
    if settings.clock.speed == 1.0 and settings.clock.origin_us == 0:
        return SystemClock()
    return ScaledClock(settings.clock.origin_us, settings.clock.speed)


class HostedCell:
    """One cell that runs."""

    def __init__(self, configuration: Configuration, parts: Parts, service: CellService, clock: Clock) -> None:
        self.service = service
        self._configuration, self._parts, self._clock = configuration, parts, clock
        self._fulfiller: Advisor | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, blobs: Blobs) -> None:
        """Take the cell and open; nothing runs beside it yet.

        Raises:
            LogError: its log cannot be gone on with.
        """
        configuration = self._configuration
        self._fulfiller = self._parts.fulfiller(self.service, self.service.derivation.rules)
        opening = opening_facts(
            configuration,
            blobs,
            at=self._clock.now_us(),
            mode=configuration.settings.mode,
            epoch=0,
            who=getpass.getuser(),
        )
        await self.service.start(self._fulfiller, opening)

    def run(self, beside: Sequence[Awaitable[None]] = ()) -> None:
        """Let it run, its companions and `beside` with it; the failure of any is the cell's."""
        settings = self._configuration.settings
        work: list[Awaitable[None]] = [
            self.service.run(),
            _watch(self.service, self._clock, settings.silent_s * settings.clock.speed),
            *(companion(self.service) for companion in self._parts.companions),
            *beside,
        ]
        with about(cell=self.service.cell):
            self._tasks = [asyncio.ensure_future(_kept_in_sight(self.service, each)) for each in work]

    async def stop(self) -> None:
        """End everything and wait for it. Again is free."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._fulfiller is not None:
            await self._fulfiller.close()


async def _kept_in_sight(service: CellService, work: Awaitable[None]) -> None:
    """Run; a failure of any part is the cell's failure, and its automation stops with it."""
    try:
        await work
    except Exception as error:  # the top of a cell: recorded, and the cell's automation ends
        LOG.error("cell %s stopped: %s", service.cell, error)
        service.failed = service.failed or error
        raise


async def _watch(service: CellService, clock: Clock, silent_s: float) -> None:
    """Declare the source lost when not even a tick came for `silent_s` of agent time: only this clock can know."""
    told, told_n = False, 0
    began_us = clock.now_us()
    while True:
        await asyncio.sleep(WATCH_S)
        now_us = clock.now_us()
        quiet_s = (now_us - max(service.last_heard_us, began_us)) / 1e6
        if quiet_s > silent_s and not told:
            told = True
            await service.put(SourceSilent(at=now_us, source=service.cell, silent_s=round(quiet_s, 3)))
            await service.put(Tick(WATCH, service.epoch, told_n, complete_until=0, alive=False))
            told_n += 1
        elif quiet_s <= silent_s:
            told = False
