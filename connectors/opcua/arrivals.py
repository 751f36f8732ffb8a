"""Turns what happened, one message after the other, into the next inputs of a cell. Pure: no socket, no clock.

Here is decided what a tick may call complete, what an outage or a lost message leaves as a Gap, and what is late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from asyncua import ua

from connectors.opcua.liveness import Liveness
from connectors.opcua.mapping import is_good, overflowed, sample_of
from connectors.opcua.monitoring import Monitoring
from connectors.ordering import InputOrder, Sample
from schemas.plant import Cell
from schemas.samples import Input
from schemas.settings import OpcUaSettings

FIRST_SEQUENCE = 1
"""Of the first data message of a subscription (OPC 10000-4, 7.26)."""


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
class Up:
    """A session is up and its items are made."""

    session: int
    monitoring: Monitoring
    at: int


@dataclass(frozen=True, slots=True)
class Down:
    """The session is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class Published:
    """A publish response, keep-alives too."""

    session: int
    result: ua.PublishResult
    asked_at: int
    """When the request that it answers was sent: what the server had queued by then is in this or an earlier one."""
    at: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class TickDue:
    """A second of agent time is over."""

    now: int


Message = Up | Down | Published | TickDue


class Arrivals:
    """What one cell has got so far, through all sessions."""

    def __init__(self, cell: Cell, settings: OpcUaSettings, *, epoch: int, speed: float) -> None:
        """Begin with nothing.

        Args:
            cell: Whose input it is.
            settings: Sampling interval and `dead_after_s`.
            epoch: Higher than at any earlier start of this source.
            speed: Agent time per wall time.
        """
        self._cell, self._speed = cell, speed
        self._dead_after_s, self._sampling_s = settings.dead_after_s, settings.sampling_ms / 1000
        self.counters = Counters()
        self.connected = False
        self.monitoring: Monitoring | None = None
        """Of the present session, or the last one."""
        self._order = InputOrder(f"opcua:{cell.id}", epoch)
        self._liveness = Liveness(cell, dead_after_s=settings.dead_after_s)
        self._current: int | None = None
        self._lost_at: int | None = None
        self._lost_reason = ""
        self._observed_until = 0
        self._sequence = FIRST_SEQUENCE
        self._state_number: int | None = None
        self._last_source_at: dict[int, int] = {}

    def take(self, message: Message) -> list[Input]:
        """Turn what happened into the cell's next inputs."""
        match message:
            case Up():
                return self._begin(message)
            case Down():
                self.connected, self._current = False, None
                self._lost_at, self._lost_reason = self._observed_until, message.reason
                return self._order.tick(self._observed_until, alive=False)
            case Published():
                return self._published(message) if message.session == self._current else []
            case TickDue(now):
                return self._tick(now)
        assert_never(message)

    def _begin(self, up: Up) -> list[Input]:
        self.connected, self._current = True, up.session
        self.monitoring = up.monitoring
        self._liveness = Liveness(self._cell, dead_after_s=self._dead_after_s)
        self._liveness.begin(up.at)
        self._sequence, self._state_number = FIRST_SEQUENCE, None
        self._last_source_at.clear()
        self.counters = replace(self.counters, sessions_n=self.counters.sessions_n + 1)
        if self._lost_at is None:
            return []
        lost_at, self._lost_at = self._lost_at, None
        return self._order.gap((), lost_at, up.at, self._lost_reason)

    def _published(self, message: Published) -> list[Input]:
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
        if number == expected:
            return []
        self.counters = replace(self.counters, sequence_gaps_n=self.counters.sequence_gaps_n + 1)
        return self._order.gap((), self._observed_until, at, f"publish responses {expected} to {number - 1} missing")

    def _notified(self, notification: ua.MonitoredItemNotification, message: Published) -> list[Input]:
        item = self.monitoring.item(int(notification.ClientHandle)) if self.monitoring else None
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

    def _tick(self, now: int) -> list[Input]:
        monitoring = self.monitoring
        if not self.connected or monitoring is None:
            return self._order.tick(now - self._sampling_us(), alive=False)
        stale = self._liveness.stale(monitoring.collected, monitoring.fresh, now=now)
        return self._order.tick(self._observed_until, alive=self._liveness.alive(), stale=stale)

    def _sampling_us(self) -> int:
        """How old a value may be when the server queues it, in agent time."""
        wall_s = self.monitoring.sampling_s if self.monitoring else self._sampling_s
        return int(wall_s * 1e6 * self._speed)
