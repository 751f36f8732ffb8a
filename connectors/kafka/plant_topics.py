"""The collector of one cell whose samples the plant itself puts on topics, in JSON. It only reads them.

A thread reads; here messages are understood, ordered and given to the sink. At least once: how far the topics were
read is committed only when the spool has synced all that came of it, so a collector that is killed reads the rest
again. The broker is told at every tick, so that is what came within about two seconds before the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, assert_never

from kafka import TopicPartition

from connectors.clock import Clock
from connectors.kafka.codec import Message
from connectors.kafka.dead import dead_letter
from connectors.kafka.handover import CaughtUp, Handed, Polled, Reads, Skipped
from connectors.kafka.mapping import Kind, Mapped, NotOurs, Reason, Unmappable, map_message
from connectors.kafka.plant_reader import PlantReader
from connectors.kafka.stream_order import StreamOrder
from connectors.kafka.streams import StreamMapping
from schemas.plant import Cell
from schemas.samples import Input
from schemas.settings import KafkaSettings

LOG = logging.getLogger("jidoka.plant_topics")

TICK_S: Final = 1.0
"""Wall time."""
TOLD_S: Final = 60.0
"""Wall time between two warnings of one kind; and between two letters about messages that were used otherwise."""
JOIN_S: Final = 10.0
"""Wall time for the thread to end."""

Sink = Callable[[Input], Awaitable[None]]


class Durable(Protocol):
    """Where the sink puts what it gets; the spool."""

    position: int
    """Of the last that was put there."""
    synced: int
    """Up to here it is durable."""


@dataclass(slots=True)
class Understanding:
    """What the messages came to since the start."""

    messages_n: int = 0
    used_n: int = 0
    """That gave at least one sample or event."""
    not_ours_n: int = 0
    """That are about another cell."""
    refused_n: int = 0
    """Of which nothing could be used; each is a dead letter."""
    samples_n: int = 0
    events_n: int = 0
    late_n: int = 0
    """Samples that came after a tick had called their time complete."""
    skipped_n: int = 0
    """Stretches that could not be read any more; each is told as a gap."""
    reasons: Counter[Kind] = field(default_factory=Counter)
    """Of what could not be used, whole messages and parts."""


class PlantTopics:
    """Collects one cell for ever, through outages."""

    def __init__(
        self,
        cell: Cell,
        mappings: Sequence[StreamMapping],
        settings: KafkaSettings,
        clock: Clock,
        durable: Durable,
        *,
        epoch: int,
        ended_at: int | None = None,
    ) -> None:
        """Prepare; nothing is connected before `run`.

        Args:
            cell: What to collect.
            mappings: The cell's entries of `streams.toml`; at least one.
            settings: Brokers and security, of the plant's topics and ours.
            clock: Agent time.
            durable: Where the sink puts it.
            epoch: Higher than at any earlier start of this source.
            ended_at: Agent time up to which the topics were collected before; None: they never were.
        """
        self.cell = cell
        self._mappings: dict[str, list[StreamMapping]] = {}
        for each in mappings:
            self._mappings.setdefault(each.stream.topic, []).append(each)
        self._order = StreamOrder(cell, [each.stream for each in mappings], epoch=epoch)
        first = {topic: entries[0].stream.begin for topic, entries in self._mappings.items()}
        self._reader = PlantReader(cell.id, first, settings, clock, epoch=epoch, collected=ended_at is not None)
        self._clock, self._durable, self._ended_at = clock, durable, ended_at
        self.counters = Understanding()
        self._positions: dict[TopicPartition, int] = {}
        self._marks: deque[tuple[int, dict[TopicPartition, int]]] = deque()
        self._told: dict[str, tuple[float, int]] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """What is read."""
        return tuple(self._mappings)

    @property
    def fault(self) -> str:
        """Why nothing can be read or noted as read now; empty: all goes well."""
        return self._reader.fault

    @property
    def reader(self) -> PlantReader:
        """For its counters."""
        return self._reader

    async def run(self, sink: Sink) -> None:
        """Give every input to `sink`, one after the other, until cancelled.

        Args:
            sink: Awaited for each input; as long as it does not return, nothing more is fetched soon. What it raises
                ends the collector.
        """
        self._reader.begin()
        try:
            tick_s = time.monotonic() + TICK_S
            while True:
                await self._reader.handover.news(max(0.0, tick_s - time.monotonic()))
                while time.monotonic() < tick_s and (handed := self._reader.handover.take()) is not None:
                    await self._take(handed, sink)
                    await asyncio.sleep(0)  # A backlog must not keep the other cells waiting.
                self._settle()
                if time.monotonic() >= tick_s:
                    await self._tick(sink)
                    # Seconds that were lost to a slow sink are not made up for.
                    tick_s = max(tick_s + TICK_S, time.monotonic())
        finally:
            self._reader.stop()
            await asyncio.to_thread(self._reader.join, JOIN_S)

    async def _take(self, handed: Handed, sink: Sink) -> None:
        match handed:
            case Reads(places):
                self._order.read_from(places)
            case CaughtUp(place, at):
                self._order.complete(place, at)
            case Skipped(place, reason):
                self.counters.skipped_n += 1
                now = self._clock.now_us()
                since_at = now if self._ended_at is None else self._ended_at
                await _give(sink, self._order.lost(place, since_at=since_at, now=now, reason=reason))
            case Polled(records):
                for record in records:
                    await _give(sink, self._message(record))
                last = records[-1]
                self._positions[TopicPartition(last.topic, last.partition)] = last.offset + 1
                if self._order.due:
                    await self._tick(sink)
            case _:
                assert_never(handed)
        self._reader.hold(self._order.ahead)

    async def _tick(self, sink: Sink) -> None:
        """Tell how far it is. A tick leaves nothing behind, so all that was read may be committed once it is synced."""
        await _give(sink, self._order.tick(answering=self._reader.answering, wall_s=time.monotonic()))
        self.counters.late_n = self._order.late_n
        if self._positions:
            self._marks.append((self._durable.position, self._positions))
            self._positions = {}
        self._settle()
        self._tell()

    def _settle(self) -> None:
        """Let be committed what the spool has synced."""
        while self._marks and self._marks[0][0] <= self._durable.synced:
            self._reader.committer.safe(self._marks.popleft()[1])

    # ---- one message

    def _message(self, record: Any) -> list[Input]:
        """Return what a message comes to, by all entries of its topic; nothing of it gets lost unseen."""
        self.counters.messages_n += 1
        outcomes = [map_message(mapping, record.key, record.value) for mapping in self._mappings[record.topic]]
        mapped = [each for each in outcomes if isinstance(each, Mapped)]
        problems = [reason for outcome in outcomes for reason in _problems(outcome)]
        self.counters.used_n += bool(mapped)
        self.counters.not_ours_n += all(isinstance(outcome, NotOurs) for outcome in outcomes)
        self.counters.reasons.update(reason.kind for reason in problems)
        if problems:
            self._refuse(record, problems, used=bool(mapped))
        return [item for each in mapped for item in self._inputs(each, record)]

    def _inputs(self, mapped: Mapped, record: Any) -> list[Input]:
        self.counters.samples_n += len(mapped.samples)
        self.counters.events_n += len(mapped.events)
        place = TopicPartition(record.topic, record.partition)
        return self._order.take(mapped, place=place, received_at=self._clock.now_us(), wall_s=time.monotonic())

    def _refuse(self, record: Any, problems: Sequence[Reason], *, used: bool) -> None:
        """Put a message aside; of those that were used otherwise only one now and then: the topic still has them."""
        self.counters.refused_n += not used
        kind = problems[0].kind
        if used and not self._due(f"in part: {kind}", self.counters.reasons[kind]):
            return
        headers = tuple((name, content or b"") for name, content in record.headers)
        letter = dead_letter(
            Message(record.key or b"", record.value or b"", headers),
            reason=("used in part: " if used else "") + "; ".join(problems),
            origin=f"collect {self._order.source} {record.topic}/{record.partition}@{record.offset}",
        )
        self._reader.committer.refuse(letter)

    # ---- what a person should know

    def _tell(self) -> None:
        counters = self.counters
        if counters.reasons.total() and self._due("refused", counters.reasons.total()):
            kinds = ", ".join(f"{kind} {n}" for kind, n in counters.reasons.most_common())
            LOG.warning(
                "%s: %d messages not understood, others in part (%s): see dead-letters.v1, and `jidoka streams check`",
                self._order.source, counters.refused_n, kinds,
            )  # fmt: skip
        if counters.late_n and self._due("late", counters.late_n):
            LOG.warning(
                "%s: %d samples came too late, by %.1f s at most: set the plant's clock, or raise disorder_s",
                self._order.source, counters.late_n, self._order.latest_us / 1e6,
            )  # fmt: skip

    def _due(self, what: str, count: int = 0) -> bool:
        """Tell whether to say something again: after a while, and if there is more of it than last time."""
        now_s, (told_s, told_n) = time.monotonic(), self._told.get(what, (-TOLD_S, -1))
        if now_s - told_s < TOLD_S or count <= told_n:
            return False
        self._told[what] = (now_s, count)
        return True


def _problems(outcome: Mapped | Unmappable | NotOurs) -> Iterator[Reason]:
    if isinstance(outcome, Unmappable):
        yield outcome.reason
    elif isinstance(outcome, Mapped):
        yield from outcome.problems


async def _give(sink: Sink, inputs: Sequence[Input]) -> None:
    for item in inputs:
        await sink(item)
