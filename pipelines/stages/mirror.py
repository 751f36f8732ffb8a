"""Copies the log to `decisions.v1`, for others: each fact once, in the log's order within a partition.

The store is the record; this is its copy, with position and chain in the headers, so that a reader sees a gap, an edit
or a repetition by itself. The process that has partition 0 of `anomalies.v1` copies; while two believe so, facts come
twice and a reader drops them by position.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from agent.ports import EventStore
from connectors.kafka.closing import close_producer
from connectors.kafka.outage import Outage
from schemas.errors import ConnectionFault
from schemas.records import Recorded
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.mirror")

TOPIC = "decisions.v1"
BATCH_MAX = 500
"""Facts on their way: all are acknowledged before the next ones go."""
BATCH_BYTES_MAX = 500_000
"""Of these, with headers; a single larger one goes alone. Below what the producer puts into one request for a
partition: of two, the first could fail and the second arrive, and a reader would have a hole for ever."""
SEND_BYTES_MAX = 1_000_000
HEADERS_BYTES = 1_000
"""Of one fact, and more than that."""
LINGER_S = 20.0
"""Nothing leaves before all of a round is handed over."""
LOOK_S = 0.2
"""Wall time between two looks at the log."""
AGAIN_S = 2.0
"""Wall time between a failure of the broker and the next attempt; also between two looks at whether it is ours."""
DELIVERY_S = 60.0
"""Wall time for a fact to be acknowledged, and for the last one of a partition to be read."""
CLOSE_S = 5.0
"""Wall time for the producer to end."""


class Mirror:
    """The copier of one process."""

    def __init__(
        self,
        store: EventStore,
        connection: Mapping[str, Any],
        partitions: int,
        log_id: str,
        *,
        ours: Callable[[], bool],
    ) -> None:
        """Prepare.

        Args:
            store: The log.
            connection: Arguments of a Kafka client.
            partitions: Of the topic.
            log_id: Names the log in each message.
            ours: Whether it is for this process to copy now.
        """
        self.position = 0
        """Of the last fact that is on the topic for sure."""
        self._store, self._connection, self._partitions, self._log_id = store, connection, partitions, log_id
        self._ours, self._outage = ours, Outage(LOG, TOPIC)

    async def run(self) -> None:
        """Copy for ever; begins anew after any failure of the broker."""
        while True:
            if self._ours():
                try:
                    await self._copy()
                except Exception as error:  # noqa: BLE001  # kafka-python raises several families; none ends deciding
                    self._outage.is_on(error)
            await asyncio.sleep(AGAIN_S)

    async def _copy(self) -> None:
        ends = await asyncio.to_thread(self._ends)
        producer = await asyncio.to_thread(self._producer)
        try:
            self.position = max(0, max(ends.values(), default=0) - BATCH_MAX)
            while self._ours():
                batch = await self._batch()
                if batch:
                    await asyncio.to_thread(self._send, producer, [r for r in batch if r.position > ends[self._of(r)]])
                    self.position = batch[-1].position
                    self._outage.is_over()
                else:
                    await asyncio.sleep(LOOK_S)
        finally:
            await asyncio.to_thread(close_producer, producer, CLOSE_S)

    async def _batch(self) -> list[Recorded]:
        batch: list[Recorded] = []
        bytes_n = 0
        async for record in self._store.read_all(after=self.position):
            bytes_n += len(record.data) + HEADERS_BYTES
            if batch and bytes_n > BATCH_BYTES_MAX:
                break
            batch.append(record)
            if len(batch) == BATCH_MAX:
                break
        return batch

    def _of(self, record: Recorded) -> int:
        return partition_of(record.cell, self._partitions)

    def _producer(self) -> Any:
        return KafkaProducer(
            **self._connection,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=int(DELIVERY_S * 1000),
            linger_ms=int(LINGER_S * 1000),
            batch_size=SEND_BYTES_MAX,
        )

    def _send(self, producer: Any, records: list[Recorded]) -> None:
        sent = [
            producer.send(
                TOPIC, key=r.cell.encode(), value=r.data, headers=headers(r, self._log_id), partition=self._of(r)
            )
            for r in records
        ]
        producer.flush(timeout=DELIVERY_S)
        for each in sent:
            each.get(timeout=DELIVERY_S)

    def _ends(self) -> dict[int, int]:
        """Return the position of the last fact on each partition; 0 where there is none."""
        consumer = KafkaConsumer(**self._connection, enable_auto_commit=False, group_id=None)
        try:
            ends = {}
            for number in range(self._partitions):
                where = TopicPartition(TOPIC, number)
                consumer.assign([where])
                ends[number] = self._last(consumer, where)
            return ends
        finally:
            consumer.close(autocommit=False)

    def _last(self, consumer: Any, where: Any) -> int:
        end = consumer.end_offsets([where])[where]
        if end == consumer.beginning_offsets([where])[where]:
            return 0
        consumer.seek(where, end - 1)
        for _ in range(int(DELIVERY_S)):
            for record in consumer.poll(timeout_ms=1000).get(where, []):
                return position_of(record.headers)
        raise ConnectionFault(f"{TOPIC}/{where.partition}: its last message does not come")


def headers(record: Recorded, log_id: str) -> list[tuple[str, bytes]]:
    """Return what a reader needs to check the chain: CloudEvents in Kafka's binary binding, and the record's place."""
    at = datetime.fromtimestamp(record.recorded_at / 1e6, UTC).isoformat()
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{log_id}/{record.position}".encode()),
        ("ce_source", log_id.encode()),
        ("ce_type", f"jidoka.{record.type}".encode()),
        ("ce_time", at.encode()),
        ("content-type", b"application/json"),
        ("position", b"%d" % record.position),
        ("version", b"%d" % record.version),
        ("recorded_at", b"%d" % record.recorded_at),
        ("inputs", msgspec.json.encode(record.inputs, order="deterministic")),
        ("chain", record.chain.hex().encode()),
    ]


def position_of(message_headers: list[tuple[str, bytes]]) -> int:
    """Return the log position that a message of the topic bears.

    Raises:
        ConnectionFault: it is not ours.
    """
    found = dict(itertools.islice(message_headers, 50)).get("position", b"")
    if not found.isdigit():
        raise ConnectionFault(f"{TOPIC}: a message without position: something else writes there")
    return int(found)
