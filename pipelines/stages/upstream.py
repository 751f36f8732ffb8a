"""What a decision service writes to topics: input for its own cells, the way of all input, and dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from agent.ports import Clock
from connectors.kafka import dead
from connectors.kafka.closing import close_producer
from connectors.kafka.codec import Message, encode_message, tag_table_sha256
from connectors.kafka.outage import Outage
from pipelines.decide import CellService
from schemas.errors import ConnectionFault
from schemas.samples import Control, Input, Tick
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.decide")

TELEMETRY = "telemetry.v1"
BLOCK_S, REQUEST_S, DELIVERY_S = 5.0, 10.0, 20.0
"""Wall time for the broker to be found, to answer, and to have a message; then it is sent once more."""
AGAIN_S = 1.0
"""Wall time before that."""
CLOSE_S = 5.0
"""Wall time at the end for what is on its way."""


class Upstream:
    """Publishes for all cells of a process."""

    def __init__(self, connection: Mapping[str, Any], partitions: int, clock: Clock) -> None:
        self._producer = KafkaProducer(
            **connection,
            acks="all",
            enable_idempotence=True,
            max_block_ms=int(BLOCK_S * 1000),
            request_timeout_ms=int(REQUEST_S * 1000),
            delivery_timeout_ms=int(DELIVERY_S * 1000),
        )
        self._partitions, self._clock = partitions, clock
        self._next: dict[tuple[str, str, int], int] = {}
        """Seq by cell, source and epoch."""
        self._turns: dict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        """By cell and source: what comes behind another that is sent again would let that count as repeated."""
        self._outage = Outage(LOG, "writing")

    async def publish(self, service: CellService, item: Input) -> None:
        """Send one input, numbered anew; return when the broker has it, however long it is away.

        Raises:
            ConnectionFault: it refuses.
        """
        assert isinstance(item, Control | Tick), "samples come from collectors"
        cell = service.derivation.rules.cell
        async with self._turns[cell.path, item.source]:
            key = (cell.path, item.source, service.epoch)
            seq = self._next.get(key, 0)
            self._next[key] = seq + 1
            numbered = msgspec.structs.replace(item, epoch=service.epoch, seq=seq)
            message = encode_message(cell.path, self._clock.now_us(), numbered, tag_table_sha256(cell))
            # Sent again it has the same number: whoever has it already drops it.
            await self._send(TELEMETRY, message, partition_of(cell.path, self._partitions))

    async def bury(self, record: Any, reason: str) -> None:
        """Hand on what nobody can use, with why and where it lay; return when the broker has it, perhaps twice.

        Raises:
            ConnectionFault: it refuses.
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
        await self._send(dead.TOPIC, letter, None)

    async def _send(self, topic: str, message: Message, partition: int | None) -> None:
        while True:
            try:
                await asyncio.to_thread(self._send_once, topic, message, partition)
            except KafkaError as error:
                if not error.retriable:
                    key = message.key[:100]
                    raise ConnectionFault(f"{topic}: the broker refuses a message of {key!r}: {error}") from error
                self._outage.is_on(error)
                await asyncio.sleep(AGAIN_S)
            else:
                self._outage.is_over()
                return

    def _send_once(self, topic: str, message: Message, partition: int | None) -> None:
        sent = self._producer.send(
            topic, key=message.key, value=message.value, headers=list(message.headers), partition=partition
        )
        sent.get(timeout=DELIVERY_S)

    def close(self) -> None:
        """Let go of the broker."""
        close_producer(self._producer, CLOSE_S)
