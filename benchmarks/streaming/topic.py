"""Puts messages on `telemetry.v1` and watches what comes out on `anomalies.v1`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from connectors.kafka.admin import apply_topics
from connectors.kafka.codec import Message
from connectors.kafka.connection import aiokafka_arguments, client_arguments
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

IN, OUT = "telemetry.v1", "anomalies.v1"
GONE_WITHIN_S = 30.0
AHEAD_MAX = 200
"""Messages that the broker has not acknowledged yet."""


def begin_anew(settings: KafkaSettings) -> None:
    """Delete all topics, with what groups committed on them, and make them again."""
    admin = KafkaAdminClient(**client_arguments(settings))
    try:
        names = [name for name in admin.list_topics() if not name.startswith("__")]
        if names:
            admin.delete_topics(names)
        until_s = time.monotonic() + GONE_WITHIN_S
        while set(names) & set(admin.list_topics()):
            assert time.monotonic() < until_s, "topics do not go away"
            time.sleep(0.1)
    finally:
        admin.close()
    apply_topics(settings)


def preload(settings: KafkaSettings, messages: Iterable[Message]) -> int:
    """Send messages, return when the broker has them all; returns how many there were.

    By aiokafka, whose producer costs less than ours: only the consumers are measured.
    """
    return asyncio.run(_preload(settings, messages))


async def _preload(settings: KafkaSettings, messages: Iterable[Message]) -> int:
    producer = AIOKafkaProducer(**aiokafka_arguments(settings), acks=1, max_batch_size=500_000)
    count, waiting = 0, []
    async with producer:
        for message in messages:
            partition = partition_of(message.key.decode(), settings.partitions)
            waiting.append(
                await producer.send(IN, message.value, message.key, partition, headers=list(message.headers))
            )
            count += 1
            if len(waiting) >= AHEAD_MAX:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    return count


@contextmanager
def ends(settings: KafkaSettings, topic: str, partitions: Iterable[int]) -> Iterator[Ends]:
    """Give a look at how far partitions of a topic are."""
    consumer = KafkaConsumer(**client_arguments(settings), group_id=None)
    try:
        yield Ends(consumer, [TopicPartition(topic, number) for number in partitions])
    finally:
        consumer.close(autocommit=False)


class Ends:
    """The ends of some partitions."""

    def __init__(self, consumer: KafkaConsumer, where: list[TopicPartition]) -> None:
        self._consumer, self._where = consumer, where

    def now(self) -> list[int]:
        """Return the offset behind the last message of each."""
        found = self._consumer.end_offsets(self._where)
        return [found[each] for each in self._where]
