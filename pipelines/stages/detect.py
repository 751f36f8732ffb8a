"""The detection worker: Faust around `Partition`. From `telemetry.v1` to `anomalies.v1`.

Faust gives the group, the assignment and the messages of one partition in order. It is not trusted with offsets: it
commits past messages that are still in work as soon as an agent has `concurrency` 2 (faust-streaming issue 606), counts
a commit as done that failed (316), and acknowledges what it skips after a rebalance. So the topic is read with
`acks=False`, with which Faust keeps no book of it, and the offset is committed here, behind saved states.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, cast

import faust
from faust.streams import Stream
from faust.transport.consumer import ThreadDelegateConsumer as Consumer
from faust.types import TP, StreamT

from agent.guard.question import Rulebook
from agent.ports import Blobs
from connectors.kafka import dead
from connectors.kafka.codec import TYPES
from pipelines.detection import Seen
from pipelines.stages.exclusion import Exclusion
from pipelines.stages.outgoing import Outgoing
from pipelines.stages.partition import Partition, StateStore
from pipelines.stages.sequence import Counts
from schemas.errors import CodecError, Fenced
from schemas.observations import Observation, encode_observation
from schemas.samples import LineEvent
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.detect")

GROUP = "jidoka-detect"
IN, OUT, LINE = "telemetry.v1", "anomalies.v1", "line-events.v1"
LINE_EVENT = TYPES[LineEvent].encode()
"""`ce_type` of what is copied to `LINE`."""
BUFFER_MAX = 3
"""Parcels that wait within the worker; see `pipelines.stages.parcels`."""
POLL_MAX = 100
"""Messages in one answer of the consumer, and so in a parcel."""
FETCH_BYTES_MAX = 4_000_000
"""Of one partition in one answer of the broker."""
TURN = 16
"""Messages after which whatever else waits in the process has its turn: observations leave together by then."""
PENDING_MAX = 500
"""Observations that wait for the broker's word; then the worker waits for them."""
SAVE_LOOK_S = 1.0
"""Wall time between two looks at what is not safe yet. Behind its messages a worker takes minutes of plant time in a
second: saves that often cost more than they spare after a crash."""
HEARTBEAT_S = 2.0
SEND_BYTES_MAX = 500_000
"""Of one request with observations; with fewer a worker behind its messages waits for the broker again and again."""
SEND_S = 120.0
"""Wall time for which a send is tried again before the worker ends itself, and at once: see `Outgoing`."""


@dataclass(slots=True)
class Work:
    """What a worker has done; for metrics and the watchdog."""

    messages: int = 0
    samples_bytes: int = 0
    observations: int = 0
    dead_letters: int = 0
    saves: int = 0
    committed: dict[int, int] = field(default_factory=dict)
    """By partition."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a worker is with one partition."""

    next_offset: int
    """Behind the last message that was taken."""
    dirty: bool
    """Whether anything was taken that is not safe."""
    unsaved_s: float
    """Wall time since the last save."""
    counts: Mapping[str, Counts]
    """By cell."""


class Worker:
    """Everything behind one Faust app."""

    def __init__(
        self,
        app: faust.App,
        settings: KafkaSettings,
        rules: Mapping[str, Rulebook],
        states: StateStore,
        blobs: Blobs,
        *,
        snapshot_bytes: int,
        last_given: Callable[[str], Awaitable[int]],
    ) -> None:
        """Wire everything; the app is started by the caller.

        Args:
            app: Without agents.
            settings: Of the broker.
            rules: By cell path.
            states: Where the cells' states are.
            blobs: For what observations name.
            snapshot_bytes: See `CellStage`.
            last_given: See `Partition`.
        """
        self.work = Work()
        self._app, self._settings, self._rules = app, settings, rules
        self._states, self._blobs, self._snapshot_bytes = states, blobs, snapshot_bytes
        self._last_given = last_given
        self._partitions: dict[int, Partition] = {}
        self._pending = Outgoing()
        self._saved_s: dict[int, float] = {}
        """Wall time of the last save, by partition."""
        self._alone = Exclusion()
        """Messages, saves and changes of the assignment exclude each other."""
        self._in = _raw(app, IN)
        self._dead, self._line = _raw(app, dead.TOPIC), _raw(app, LINE)
        # concurrency 1: order within a partition is all there is to go by.
        app.agent(self._in, concurrency=1, name="detect")(self._detect)
        app.timer(SAVE_LOOK_S)(self._save_when_due)
        app.on_partitions_revoked.connect(cast(Any, self._revoked), weak=False)

    def partitions(self) -> set[int]:
        """Return the numbers of the partitions that this worker has now."""
        return {tp.partition for tp in self._app.consumer.assignment() if tp.topic == IN}

    def standing(self) -> dict[int, Standing]:
        """Return how far it is, by partition of which a message came."""
        now_s = monotonic()
        return {
            number: Standing(
                partition.next_offset, partition.dirty, now_s - self._saved_s.get(number, now_s), partition.counts
            )
            for number, partition in self._partitions.items()
        }

    async def _detect(self, stream: StreamT[Any]) -> None:
        async for event in cast(Stream[Any], stream).noack().events():
            try:
                await self._take_parcel(event.message)
            except Exception as error:  # the top of the stage: Faust would go on with the next message
                LOG.error("the worker ends: %r", error)
                await self._app.crash(error)
                raise

    async def _take_parcel(self, parcel: Any) -> None:
        for number, message in enumerate(parcel.value, 1):
            await self.take(message, parcel.generation_id)
            if number % TURN == 0:
                await asyncio.sleep(0)

    async def take(self, message: Any, generation_id: int) -> None:
        """Process one message of the topic, fetched in this generation of the group."""
        async with self._alone:
            if generation_id != self._app.consumer_generation_id:
                return  # It was fetched before the partitions were dealt anew: whoever has it now reads it again.
            partition = self._partition(message.partition)
            begun = partition.next_offset
            headers = tuple(message.headers or ())
            self.work.messages += 1
            try:
                seen = await partition.take(message.offset, message.key, message.value, headers)
            except CodecError as error:
                await self._bury(message, str(error))
                return
            for each in seen:
                await self._give(each)
            if message.offset >= begun and dict(headers).get("ce_type") == LINE_EVENT:
                await self._copy(message)
            if len(self._pending) >= PENDING_MAX:
                await self._acknowledged()

    def _partition(self, number: int) -> Partition:
        if number not in self._partitions:
            self._partitions[number] = Partition(
                self._rules,
                self._states,
                snapshot_bytes=self._snapshot_bytes,
                snapshot_us=int(self._settings.snapshot_s * 1e6),
                last_given=self._last_given,
                warn=LOG.warning,
                end=lambda: self._end_of(TP(IN, number)),
            )
        return self._partitions[number]

    def _end_of(self, tp: TP) -> int | None:
        """Return the offset behind the newest message, as the last answer of the broker said; None: it is not ours."""
        consumer = self._app.consumer
        return consumer.highwater(tp) if tp in consumer.assignment() else None

    async def _give(self, seen: Seen) -> None:
        for data in seen.blobs.values():
            self._blobs.put(data)
        if seen.observation is not None:
            await self._send(seen.observation)

    async def _send(self, observation: Observation) -> None:
        # Past `Topic.send`, which lets the whole process have three turns before each message.
        producer = self._app.producer
        await producer.maybe_start()
        headers = {
            "ce_specversion": b"1.0",
            "ce_id": f"{observation.cell}/{observation.begun_at}/{observation.position}".encode(),
            "ce_source": observation.cell.encode(),
            "ce_type": b"jidoka.observation/1",
            "content-type": b"application/json",
        }
        self._pending.append(
            await producer.send(
                OUT,
                key=observation.cell.encode(),
                value=encode_observation(observation),
                partition=partition_of(observation.cell, self._settings.partitions),
                timestamp=None,
                headers=headers,
            )
        )
        self.work.observations += 1

    async def _copy(self, message: Any) -> None:
        """Hand on a line event, as it came, for those who want nothing else of the input."""
        self._pending.append(
            await self._line.send(
                key=message.key, value=message.value, partition=message.partition, headers=tuple(message.headers)
            )
        )

    async def _bury(self, message: Any, reason: str) -> None:
        """Hand on, as it came, what nobody can read; with why, and where it lay."""
        LOG.warning("%s/%d at %d: %s", message.topic, message.partition, message.offset, reason)
        self.work.dead_letters += 1
        letter = dead.dead_letter_of(
            message.key,
            message.value,
            message.headers,
            reason=reason,
            by="detect",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
        )
        self._pending.append(await self._dead.send(key=letter.key, value=letter.value, headers=[*letter.headers]))

    async def _acknowledged(self) -> None:
        await self._pending.acknowledged()

    async def _save(self, number: int) -> None:
        """Make a partition safe and commit; give it up if another worker has it."""
        partition = self._partitions[number]
        try:
            offset = await partition.save(self._acknowledged)
        except Fenced as error:
            LOG.warning("partition %d: %s: another worker has it", number, error)
            del self._partitions[number]
            return
        self.work.saves += 1
        self._saved_s[number] = monotonic()
        if await cast(Consumer, self._app.consumer)._commit({TP(IN, number): offset}):
            self.work.committed[number] = offset

    async def _save_when_due(self) -> None:
        """Save what is due, a partition at a time: a save holds messages up, so they have as long again after it."""
        for number in list(self._partitions):
            async with self._alone:
                began_s = monotonic()
                if self._is_due(number):
                    await self._save(number)
            await asyncio.sleep(monotonic() - began_s)

    def _is_due(self, number: int) -> bool:
        partition = self._partitions.get(number)
        if partition is None or not partition.dirty:
            return False
        unsaved_s = monotonic() - self._saved_s.setdefault(number, monotonic())
        return partition.due or unsaved_s >= self._settings.snapshot_s

    async def _revoked(self, app: Any, revoked: set[TP], **_: Any) -> None:
        """Leave what is to be left in order; whoever gets it next goes on from there."""
        async with self._alone:
            for tp in revoked:
                if tp.topic == IN and (partition := self._partitions.get(tp.partition)) is not None:
                    if partition.dirty:
                        with contextlib.suppress(Exception):  # then it is only done once more
                            await self._save(tp.partition)
                    self._partitions.pop(tp.partition, None)


def _raw(app: faust.App, name: str) -> Any:
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False)
