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
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import numpy as np
from asyncua import ua

from connectors.clock import ScaledClock
from connectors.opcua.inspection import TagProblem
from connectors.opcua.liveness import Liveness
from connectors.opcua.mapping import Sample, is_good, overflowed, parse_node, sample_of, status_name
from connectors.opcua.monitoring import Monitoring
from connectors.opcua.ordering import InputOrder
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


@dataclass(frozen=True, slots=True)
class Counters:
    """What happened since the start."""

    samples_n: int = 0
    publishes_n: int = 0
    """Publish responses, keep-alives too."""
    sessions_n: int = 0
    late_n: int = 0
    """Samples older than what a tick had called complete, the first of each session left out."""
    overflow_n: int = 0
    sequence_gaps_n: int = 0


@dataclass(frozen=True, slots=True)
class _Up:
    session: int
    monitoring: Monitoring
    at: int


@dataclass(frozen=True, slots=True)
class _Down:
    reason: str


@dataclass(frozen=True, slots=True)
class _Published:
    session: int
    result: ua.PublishResult
    asked_at: int
    """When the request that it answers was sent: what the server had queued by then is in this or an earlier one."""
    at: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class _TickDue:
    pass


_Message = _Up | _Down | _Published | _TickDue


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
        self.counters = Counters()
        self.connected = False
        self.fault = "not connected yet"
        """Why there is no session; empty while there is one."""
        self._clock, self._rng, self._retry_s = clock, rng, retry_s
        self._speed = clock.speed if isinstance(clock, ScaledClock) else 1.0
        self._order = InputOrder(f"opcua:{cell.id}", epoch)
        self._mailbox: asyncio.Queue[_Message] = asyncio.Queue(MAILBOX_MAX)
        self._monitoring: Monitoring | None = None
        self._liveness = Liveness(cell, dead_after_s=settings.dead_after_s)
        self._session_n = 0
        self._current: int | None = None
        self._waiting_since_s: float | None = None
        self._lost_at: int | None = None
        self._lost_reason = ""
        self._observed_until = 0
        self._sequence: int | None = None
        self._state_number: int | None = None
        self._last_source_at: dict[int, int] = {}

    @property
    def problems(self) -> tuple[TagProblem, ...]:
        """Findings about tags in the present session, or the last one."""
        return self._monitoring.problems if self._monitoring else ()

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
                for item in self._take(await self._mailbox.get()):
                    await sink(item)

    async def _connect_for_ever(self) -> None:
        await keep_session(
            self.settings, self.settings.collector, self._collect, rng=self._rng, on_fault=self._note_fault
        )

    def _note_fault(self, fault: ConnectionFault) -> None:
        self.fault = str(fault)

    async def _tick_for_ever(self) -> None:
        while True:
            # After a stall the seconds that passed are not made up for: one tick closes them all.
            await self._clock.sleep_until((self._clock.now_us() // TICK_US + 1) * TICK_US)
            await self._mailbox.put(_TickDue())

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
            message = _Published(session, result, asked_at, self._clock.now_us(), time.monotonic())
            ended.extend(_ends(result))
            # Values may come before all items are created; the stream must first hear that the session is up.
            await opened.wait()
            await self._mailbox.put(message)
            self._waiting_since_s, asked_at = time.monotonic(), self._clock.now_us()

        monitoring = await Monitoring.create(link.client, self.cell, self.settings, on_publish)
        self._waiting_since_s = time.monotonic()
        await self._mailbox.put(_Up(session, monitoring, self._clock.now_us()))
        opened.set()
        try:
            reason = await self._watch(link, monitoring, ended)
        except ConnectionFault as fault:
            reason = str(fault)
        await self._mailbox.put(_Down(reason))
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

    def _take(self, message: _Message) -> list[Input]:
        """Turn what happened into the cell's next inputs."""
        match message:
            case _Up():
                return self._begin(message)
            case _Down():
                self.connected, self._current = False, None
                self._lost_at, self._lost_reason = self._observed_until, message.reason
                return self._order.tick(self._observed_until, alive=False)
            case _Published():
                return self._published(message) if message.session == self._current else []
            case _TickDue():
                return self._tick()
        assert_never(message)

    def _begin(self, up: _Up) -> list[Input]:
        self.connected, self.fault, self._current = True, "", up.session
        self._monitoring = up.monitoring
        self._liveness = Liveness(self.cell, dead_after_s=self.settings.dead_after_s)
        self._liveness.begin(up.at)
        self._sequence, self._state_number = None, None
        self._last_source_at.clear()
        self.counters = replace(self.counters, sessions_n=self.counters.sessions_n + 1)
        if self._lost_at is None:
            return []
        lost_at, self._lost_at = self._lost_at, None
        return self._order.gap((), lost_at, up.at, self._lost_reason)

    def _published(self, message: _Published) -> list[Input]:
        self.counters = replace(self.counters, publishes_n=self.counters.publishes_n + 1)
        self._liveness.published(message.wall_s)
        notifications = [
            notification
            for data in message.result.NotificationMessage.NotificationData or ()
            if isinstance(data, ua.DataChangeNotification)
            for notification in data.MonitoredItems or ()
        ]
        inputs: list[Input] = []
        if notifications:
            inputs += self._check_sequence(int(message.result.NotificationMessage.SequenceNumber), message.at)
        for notification in notifications:
            inputs += self._notified(notification, message)
        if not message.result.MoreNotifications:
            # Not the time of arrival: an answer that was long on its way knows nothing of what came meanwhile.
            self._observed_until = max(self._observed_until, message.asked_at - self._sampling_us())
        return inputs

    def _check_sequence(self, number: int, at: int) -> list[Input]:
        """Find lost messages: data messages of a subscription count by one, from 2^32 - 1 on to 1."""
        expected, self._sequence = self._sequence, number % 0xFFFFFFFF + 1
        if expected is None or number == expected:
            return []
        self.counters = replace(self.counters, sequence_gaps_n=self.counters.sequence_gaps_n + 1)
        return self._order.gap((), self._observed_until, at, f"publish responses {expected} to {number - 1} missing")

    def _notified(self, notification: ua.MonitoredItemNotification, message: _Published) -> list[Input]:
        item = self._monitoring.item(int(notification.ClientHandle)) if self._monitoring else None
        if item is None:
            return []
        sample = sample_of(notification.Value, message.at)
        inputs: list[Input] = []
        if item.tag is not None:
            inputs += self._sampled(item.tag, sample)
            self._liveness.saw(item.tag, sample, received_at=message.at, wall_s=message.wall_s)
        if item.is_state and is_good(sample.status) and sample.value == sample.value:
            number = int(sample.value)
            if number != self._state_number:
                self._state_number = number
                inputs += self._order.packml(number, sample.source_at)
        return inputs

    def _sampled(self, tag: int, sample: Sample) -> list[Input]:
        counters, inputs = self.counters, list[Input]()
        last_at = self._last_source_at.get(tag)
        if overflowed(sample.status):
            counters = replace(counters, overflow_n=counters.overflow_n + 1)
            # What was dropped before the first value of a session lies in the outage's own gap, if there was one.
            if last_at is not None:
                inputs += self._order.gap((tag,), last_at, sample.source_at, "the server's queue overflowed")
        if last_at is not None and sample.source_at <= self._order.complete_until:
            counters = replace(counters, late_n=counters.late_n + 1)
        self._last_source_at[tag] = sample.source_at
        self.counters = replace(counters, samples_n=counters.samples_n + 1)
        return inputs + self._order.add(tag, sample)

    def _tick(self) -> list[Input]:
        now = self._clock.now_us()
        monitoring = self._monitoring
        if not self.connected or monitoring is None:
            return self._order.tick(now - self._sampling_us(), alive=False)
        stale = self._liveness.stale(monitoring.collected, monitoring.fresh, now=now)
        return self._order.tick(self._observed_until, alive=self._liveness.alive(), stale=stale)

    def _sampling_us(self) -> int:
        """How old a value may be when the server queues it, in agent time."""
        wall_s = self._monitoring.sampling_s if self._monitoring else self.settings.sampling_ms / 1000
        return int(wall_s * 1e6 * self._speed)


def _ends(result: ua.PublishResult) -> list[str]:
    """Return why the server ended the subscription, if it did."""
    return [
        f"the server ended the subscription ({status_name(data.Status.value)})"
        for data in result.NotificationMessage.NotificationData or ()
        if isinstance(data, ua.StatusChangeNotification) and data.Status.is_bad()
    ]
