"""What a decision service gives to the input of its own cells: it goes the way of all input, over `telemetry.v1`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from kafka import KafkaProducer

from agent.ports import Clock
from connectors.kafka.codec import encode_message, tag_table_sha256
from pipelines.decide import CellService
from schemas.errors import ConnectionFault
from schemas.samples import Control, Input, Tick
from schemas.topics import partition_of

TELEMETRY = "telemetry.v1"
DELIVERY_S = 120.0
"""Wall time for which a send is tried again; then the wish behind it fails, and a restart wishes it again."""


class Upstream:
    """Publishes for all cells of a process."""

    def __init__(self, connection: Mapping[str, Any], partitions: int, clock: Clock) -> None:
        self._producer = KafkaProducer(
            **connection,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=int(DELIVERY_S * 1000),
            reconnect_backoff_max_ms=1_000,
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
        await asyncio.to_thread(self._send, message.key, message.value, list(message.headers), cell.path)

    def _send(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]], cell: str) -> None:
        partition = partition_of(cell, self._partitions)
        try:
            sent = self._producer.send(TELEMETRY, key=key, value=value, headers=headers, partition=partition)
            sent.get(timeout=DELIVERY_S)
        except Exception as error:  # kafka-python raises several families; all mean that nobody has it for sure
            raise ConnectionFault(f"{TELEMETRY}: the broker did not take a message of {cell}: {error}") from error

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close(timeout=5.0)
