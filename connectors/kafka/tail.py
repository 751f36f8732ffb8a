"""The last messages of a topic, as they lie: for a dry run. Joins no group, commits nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from connectors.kafka.admin import require_topics
from connectors.kafka.connection import connect, translate
from schemas.settings import KafkaSettings

QUIET_S: Final = 5.0
"""Wall time without any message after which the end is taken for reached: a log may have holes."""
POLL_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Tailed:
    """A message as it lies in a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def last_messages(settings: KafkaSettings, topics: Sequence[str], last_n: int) -> list[Tailed]:
    """Return the newest messages, at most `last_n` of each topic, oldest first.

    Raises:
        ConnectionFault: no broker, no such topic, or no right to read it.
    """
    require_topics(settings, topics)
    consumer = connect(KafkaConsumer, settings, group_id=None, enable_auto_commit=False)
    try:
        return [each for topic in topics for each in _tail(consumer, topic, last_n)]
    except KafkaError as error:
        raise translate(error, settings, doing="read") from error
    finally:
        consumer.close()


def _tail(consumer: KafkaConsumer, topic: str, last_n: int) -> list[Tailed]:
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    consumer.assign(places)
    for place in places:
        consumer.seek(place, max(begins[place], ends[place] - last_n))
    found = sorted(_until(consumer, ends), key=lambda each: (each.timestamp_ms, each.partition, each.offset))
    return found[-last_n:]


def _until(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> Iterator[Tailed]:
    """Yield messages up to where the topic ended when it was asked."""
    quiet_n = int(QUIET_S * 1000 / POLL_MS)
    while quiet_n and any(consumer.position(place) < end for place, end in ends.items()):
        polled = consumer.poll(timeout_ms=POLL_MS)
        quiet_n = quiet_n if polled else quiet_n - 1
        for place, records in polled.items():
            for record in records:
                if record.offset < ends[place]:
                    yield Tailed(
                        place.topic, place.partition, record.offset, record.timestamp, record.key, record.value
                    )
