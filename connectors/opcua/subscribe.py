"""The collector of one cell: one OPC UA subscription in, one ordered stream of samples, line events, gaps, ticks out.

It cannot write: `actuate` is not imported from here. Three tasks put into one bounded mailbox (publish responses, the
session's ups and downs, the seconds of agent time) and one takes from it, so the order of the mailbox is the order of
the stream. When the consumer is slow the mailbox fills, the next publish request is held back, and the server's own
queues (`queue` values an item) take the load: the overflow bit then tells what they dropped, and it becomes a Gap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import numpy as np
from asyncua import ua

from connectors.clock import ScaledClock
from connectors.opcua.arrivals import Arrivals, Counters, Down, Message, Published, TickDue, Up
from connectors.opcua.inspection import TagProblem
from connectors.opcua.mapping import parse_node, status_name
from connectors.opcua.monitoring import Monitoring
from connectors.opcua.session import Link, keep_session
from schemas.errors import ConnectionFault
from schemas.plant import Cell
from schemas.samples import Input
from schemas.settings import OpcUaSettings

MAILBOX_MAX = 64
"""Publish responses, ticks and session changes waiting for the consumer."""
TICK_US = 1_000_000
QUARANTINE_RETRY_S = 30.0
"""Wall time between attempts to collect the tags that could not be."""
WATCH_PARTS = 10
"""Looks at a silent server within `dead_after_s`; the last one must be confirmed by another."""


class Clock(Protocol):
    """Agent time."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""

    async def sleep_until(self, at_us: int) -> None:
        """Return when `now_us() >= at_us`."""


class OpcUaCollector:
    """Collects one cell for ever, through outages."""

    def __init__(
        self,
        cell: Cell,
        settings: OpcUaSettings,
        clock: Clock,
        *,
        epoch: int,
        rng: np.random.Generator,
        retry_s: float = QUARANTINE_RETRY_S,
    ) -> None:
        """Prepare; nothing is connected before `run`.

        Args:
            cell: What to collect.
            settings: Server, user, intervals, bounds. Paths must be absolute or relative to the working folder.
            clock: Agent time. With a ScaledClock the server must run at the same speed from the same origin.
            epoch: Higher than at any earlier start of this source.
            rng: For the back-off's jitter.
            retry_s: Wall time between attempts to collect quarantined tags.

        Raises:
            ValueError: a node in `cell` is written wrongly.
        """
        for text in [tag.node for tag in cell.tags if tag.node] + ([cell.state_node] if cell.state_node else []):
            parse_node(text, cell.namespace)
        self.cell, self.settings = cell, settings
        self._arrivals = Arrivals(
            cell, settings, epoch=epoch, speed=clock.speed if isinstance(clock, ScaledClock) else 1.0
        )
        self._clock, self._rng, self._retry_s = clock, rng, retry_s
        self._mailbox: asyncio.Queue[Message] = asyncio.Queue(MAILBOX_MAX)
        self._session_n = 0
        self._waiting_since_s: float | None = None
        self._fault = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether there is a session."""
        return self._arrivals.connected

    @property
    def fault(self) -> str:
        """Why there is no session; empty while there is one."""
        return "" if self.connected else self._fault

    @property
    def counters(self) -> Counters:
        """What happened since the start."""
        return self._arrivals.counters

    @property
    def problems(self) -> tuple[TagProblem, ...]:
        """Findings about tags in the present session, or the last one."""
        monitoring = self._arrivals.monitoring
        return monitoring.problems if monitoring else ()

    async def run(self, sink: Callable[[Input], Awaitable[None]]) -> None:
        """Give every input to `sink`, one after the other, until cancelled.

        Args:
            sink: Awaited for each input; as long as it does not return, nothing more is taken from the server once
                the mailbox is full. Put into a bounded queue there. What it raises ends the collector.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._connect_for_ever())
            tasks.create_task(self._tick_for_ever())
            while True:
                for item in self._arrivals.take(await self._mailbox.get()):
                    await sink(item)

    async def _connect_for_ever(self) -> None:
        await keep_session(
            self.settings, self.settings.collector, self._collect, rng=self._rng, on_fault=self._note_fault
        )

    def _note_fault(self, fault: ConnectionFault) -> None:
        self._fault = str(fault)

    async def _tick_for_ever(self) -> None:
        while True:
            # After a stall the seconds that passed are not made up for: one tick closes them all.
            await self._clock.sleep_until((self._clock.now_us() // TICK_US + 1) * TICK_US)
            await self._mailbox.put(TickDue(self._clock.now_us()))

    async def _collect(self, link: Link) -> None:
        """Work of one session: subscribe, then watch until it is lost."""
        self._session_n += 1
        session, opened = self._session_n, asyncio.Event()
        ended: list[str] = []
        asked_at = self._clock.now_us()

        async def on_publish(result: ua.PublishResult) -> None:
            # asyncua sends the next publish request, and acknowledges this one, only when this returns.
            nonlocal asked_at
            self._waiting_since_s = None
            message = Published(session, result, asked_at, self._clock.now_us(), time.monotonic())
            ended.extend(_ends(result))
            # Values may come before all items are created; the stream must first hear that the session is up.
            await opened.wait()
            await self._mailbox.put(message)
            self._waiting_since_s, asked_at = time.monotonic(), self._clock.now_us()

        monitoring = await Monitoring.create(link.client, self.cell, self.settings, on_publish)
        self._waiting_since_s = time.monotonic()
        await self._mailbox.put(Up(session, monitoring, self._clock.now_us()))
        opened.set()
        try:
            reason = await self._watch(link, monitoring, ended)
        except ConnectionFault as fault:
            reason = str(fault)
        await self._mailbox.put(Down(reason))
        raise ConnectionFault(f"{self.settings.url}: {reason}")

    async def _watch(self, link: Link, monitoring: Monitoring, ended: list[str]) -> str:
        """Return why the session is over; meanwhile try again what could not be collected."""
        silent_s = max(self.settings.dead_after_s, 2 * monitoring.keep_alive_s)
        retry_s = time.monotonic() + self._retry_s
        looks_n = 0
        while True:
            await asyncio.wait([link.lost], timeout=self.settings.dead_after_s / WATCH_PARTS)
            if link.lost.done():
                return link.lost.result()
            if ended:
                return ended[0]
            waiting_s = self._waiting_since_s
            # Two looks: after a busy moment of this process an answer may lie in the socket, not yet read.
            looks_n = looks_n + 1 if waiting_s is not None and time.monotonic() - waiting_s > silent_s else 0
            if looks_n >= 2:
                return f"no publish response for {silent_s:g} s"
            if not monitoring.complete and time.monotonic() >= retry_s:
                await monitoring.collect_missing()
                retry_s = time.monotonic() + self._retry_s


def _ends(result: ua.PublishResult) -> list[str]:
    """Return why the server ended the subscription, if it did."""
    return [
        f"the server ended the subscription ({status_name(data.Status.value)})"
        for data in result.NotificationMessage.NotificationData or ()
        if isinstance(data, ua.StatusChangeNotification) and data.Status.is_bad()
    ]
