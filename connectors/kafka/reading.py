"""Reads messages that lie on a topic already: for counting again after a start, and for replay. No group, no commit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from schemas.errors import CodecError, ConnectionFault
from schemas.observations import Observation, decode_observation

PIECE = 256
"""Messages of the first piece that is read backwards."""
QUIET_S = 20.0
"""Wall time without a message that must be there, after which the broker counts as away."""


def read_range(
    connection: Mapping[str, Any], topic: str, partition: int, start: int, until: int | None = None
) -> Iterator[Any]:
    """Yield a partition's records from offset `start`, or from the oldest that is kept if that is later.

    Args:
        connection: Arguments of the client.
        topic: Its name.
        partition: Its number.
        start: First offset.
        until: Offset behind the last; None: the end as it is now.

    Raises:
        ConnectionFault: the broker does not give what it has.
    """
    try:
        yield from _read_range(connection, topic, partition, start, until)
    except KafkaError as error:
        raise ConnectionFault(f"{topic}/{partition} cannot be read: {error}") from error


def _read_range(
    connection: Mapping[str, Any], topic: str, partition: int, start: int, until: int | None
) -> Iterator[Any]:
    consumer = KafkaConsumer(**connection, enable_auto_commit=False, auto_offset_reset="earliest", group_id=None)
    try:
        where = TopicPartition(topic, partition)
        consumer.assign([where])
        begin = max(start, consumer.beginning_offsets([where])[where])
        end = consumer.end_offsets([where])[where] if until is None else until
        consumer.seek(where, begin)
        heard_s = time.monotonic()
        while consumer.position(where) < end:
            for record in consumer.poll(timeout_ms=500).get(where, []):
                heard_s = time.monotonic()
                if record.offset >= end:
                    return
                yield record
            if time.monotonic() - heard_s > QUIET_S:
                raise ConnectionFault(
                    f"{topic}/{partition}: nothing came behind offset {consumer.position(where)} for {QUIET_S:g} s, "
                    f"and there should be up to {end}: see that its brokers are up"
                )
    finally:
        consumer.close(autocommit=False)


def read_backwards(connection: Mapping[str, Any], topic: str, partition: int) -> Iterator[Any]:
    """Yield a partition's records from the newest to the oldest, by pieces that double.

    Raises:
        ConnectionFault: the broker does not give what it has.
    """
    (_, until), piece = span_of(connection, topic, partition), PIECE
    while until > 0:
        start = max(0, until - piece)
        records = list(read_range(connection, topic, partition, start, until))
        yield from reversed(records)
        if not records or records[0].offset > start:
            return
        until, piece = start, piece * 2


def observations_of(records: Iterable[Any], cell: str) -> Iterator[tuple[int, Observation]]:
    """Yield the offsets and observations of one cell; what cannot be read is passed over: it was told when it came."""
    for record in records:
        if record.key != cell.encode():
            continue
        try:
            observation = decode_observation(record.value or b"")
        except CodecError:
            continue
        if observation.cell == cell:
            yield record.offset, observation


def span_of(connection: Mapping[str, Any], topic: str, partition: int) -> tuple[int, int]:
    """Return the offset of the oldest record that is kept, and the one behind the newest.

    Raises:
        ConnectionFault: the broker does not say.
    """
    consumer = KafkaConsumer(**connection, enable_auto_commit=False, group_id=None)
    try:
        where = TopicPartition(topic, partition)
        return int(consumer.beginning_offsets([where])[where]), int(consumer.end_offsets([where])[where])
    except KafkaError as error:
        raise ConnectionFault(f"{topic}/{partition} cannot be read: {error}") from error
    finally:
        consumer.close(autocommit=False)
