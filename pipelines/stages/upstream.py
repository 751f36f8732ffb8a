"""What a decision service writes to topics: input for its own cells, the way of all input, and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from kafka import KafkaProducer

from agent.ports import Clock
from connectors.kafka import dead
from connectors.kafka.closing import close_producer
from connectors.kafka.codec import Message, encode_message, tag_table_sha256
from pipelines.decide import CellService
from schemas.errors import ConnectionFault
from schemas.samples import Control, Input, Tick
from schemas.topics import partition_of

TELEMETRY = "telemetry.v1"
DELIVERY_S = 120.0
"""Wall time for which a send is tried again; then the wish behind it fails, and a restart wishes it again."""
CLOSE_S = 5.0
"""Wall time at the end for what is on its way."""


class Upstream:
    """Publishes for all cells of a process."""

    def __init__(self, connection: Mapping[str, Any], partitions: int, clock: Clock) -> None:
        self._producer = KafkaProducer(
            **connection,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=int(DELIVERY_S * 1000),
        )
        self._partitions, self._clock = partitions, clock
        self._next: dict[tuple[str, str, int], int] = {}
        """Seq by cell, source and epoch."""

    async def publish(self, service: CellService, item: Input) -> None:
        """Send one input, numbered anew; return when the broker has it.

        Raises:
            ConnectionFault: it does not.
        """
        assert isinstance(item, Control | Tick), "samples come from collectors"
        cell = service.derivation.rules.cell
        key = (cell.path, item.source, service.epoch)
        seq = self._next.get(key, 0)
        self._next[key] = seq + 1
        numbered = msgspec.structs.replace(item, epoch=service.epoch, seq=seq)
        message = encode_message(cell.path, self._clock.now_us(), numbered, tag_table_sha256(cell))
        await asyncio.to_thread(self._send, TELEMETRY, message, partition_of(cell.path, self._partitions))

    async def bury(self, record: Any, reason: str) -> None:
        """Hand on what nobody can use, with why and where it lay; return when the broker has it.

        Raises:
            ConnectionFault: it does not.
        """
        letter = dead.dead_letter_of(
            record.key,
            record.value,
            record.headers,
            reason=reason,
            by="decide",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
        await asyncio.to_thread(self._send, dead.TOPIC, letter, None)

    def _send(self, topic: str, message: Message, partition: int | None) -> None:
        try:
            sent = self._producer.send(
                topic, key=message.key, value=message.value, headers=list(message.headers), partition=partition
            )
            sent.get(timeout=DELIVERY_S)
        except Exception as error:  # kafka-python raises several families; all mean that nobody has it for sure
            key = message.key[:100]
            raise ConnectionFault(f"{topic}: the broker did not take a message of {key!r}: {error}") from error

    def close(self) -> None:
        """Let go of the broker."""
        close_producer(self._producer, CLOSE_S)
