"""A plant that has its samples on topics of its own, as examples/streams.toml reads them, and the collector on it."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from kafka import KafkaProducer, TopicPartition
from kafka.errors import RetriableError

from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from connectors.kafka.codec import Arrived, decode_message
from schemas.line import state_name
from schemas.samples import LineEvent, SampleBatch, Tick
from tests.support.bench import Process
from tests.support.collecting import read_topic
from tests.support.kafka_broker import admin_of, plain, settings_of
from tests.support.quick_plant import CONFIG, QUICK

EXAMPLES = Path(__file__).parents[2] / "examples"
CYCLES, SIGNALS = "line1.cycles", "line1.signals"
TOPICS = {CYCLES: 1, SIGNALS: 3}
"""Partitions."""
ENTRIES = {entry["topic"]: entry for entry in tomllib.loads((EXAMPLES / "streams.toml").read_text())["streams"]}
TOKYO = ZoneInfo(ENTRIES[SIGNALS]["time"]["zone"])
PATHS = {value["tag"]: value["path"].split(".") for value in ENTRIES[CYCLES]["values"]}
NAMES = {value["tag"]: value["where"]["equals"] for value in ENTRIES[SIGNALS]["values"]}
MODES = {state: mode for mode, state in ENTRIES[CYCLES]["state"]["states"].items()}

Message = tuple[str, bytes, dict[str, Any]]
"""Topic, key, value."""


def configured(folder: Path, cluster: Cluster, *, session_s: float = 6.0) -> Path:
    """Make a configuration folder with the example's streams, and the topics, the plant's and ours."""
    folder.mkdir(parents=True)
    files = {path.name: path.read_text() for path in [*CONFIG.glob("*.toml"), EXAMPLES / "streams.toml"]}
    for file, old, new in QUICK:
        files[file] = files[file].replace(old, new)
    files["jidoka.toml"] += (
        f'\n[kafka]\nbootstrap = ["{cluster.bootstrap[0]}"]\npartitions = 3\nsession_s = {session_s}\n'
    )
    for name, text in files.items():
        (folder / name).write_text(text)
    apply_topics(settings_of(cluster))
    with admin_of(cluster) as admin:
        admin.create_topics({name: {"num_partitions": n} for name, n in TOPICS.items()}, wait_for_metadata=True)
    return folder


@contextmanager
def collector(config: Path) -> Iterator[Process]:
    """Run `jidoka collect`."""
    process = Process("pipelines.cli", "collect", "--config", config)
    try:
        assert process.first_line().startswith("collecting")
        yield process
    finally:
        process.end()


@contextmanager
def producing(cluster: Cluster) -> Iterator[KafkaProducer]:
    """Give a producer of the plant's."""
    patience = {"delivery_timeout_ms": 180_000, "max_block_ms": 180_000, "request_timeout_ms": 3_000}
    producer = KafkaProducer(**plain(cluster), acks="all", linger_ms=5, enable_idempotence=True, **patience)
    try:
        yield producer
        producer.flush(30.0)
    finally:
        producer.close(5.0)


def put(producer: KafkaProducer, messages: Sequence[Message]) -> None:
    """Put messages onto the plant's topics; a signal keeps its partition, so that its own order is kept."""
    for topic, key, value in messages:
        place = list(NAMES.values()).index(value["signal"]) if topic == SIGNALS else 0
        producer.send(topic, json.dumps(value).encode(), key, partition=place % TOPICS[topic])


def signal(at_us: int, tag: str, value: object, quality: str = "good") -> Message:
    """One signal, as the plant writes it."""
    at = datetime.fromtimestamp(at_us // 1_000_000, TOKYO).replace(microsecond=at_us % 1_000_000, tzinfo=None)
    return SIGNALS, b"cell1", {"signal": NAMES[tag], "at": at.isoformat(), "value": value, "quality": quality}


def messages_of(inputs: Sequence[object], names: dict[int, str]) -> list[Message]:
    """What a plant would have written: a batch's cycle tags in one message, each signal in one of its own."""
    found: list[Message] = []
    for item in inputs:
        if isinstance(item, LineEvent):
            mode = MODES[state_name(item.value)]
            found.append((CYCLES, b"cell1", {"machine": "cell1", "ms": item.source_at / 1000, "mode": mode}))
        elif isinstance(item, SampleBatch):
            found += _of_batch(item, names)
    return found


def _of_batch(batch: SampleBatch, names: dict[int, str]) -> list[Message]:
    cycles: dict[int, dict[str, Any]] = {}
    signals: list[Message] = []
    for tag, at, value in zip(batch.tag.tolist(), batch.source_at.tolist(), batch.value.tolist(), strict=True):
        if names[tag] in NAMES:
            signals.append(signal(at, names[tag], value))
            continue
        *groups, last = PATHS[names[tag]]
        place = cycles.setdefault(at, {"machine": "cell1", "ms": at / 1000, "values": {}})["values"]
        for group in groups[1:]:
            place = place.setdefault(group, {})
        place[last] = value
    return [(CYCLES, b"cell1", message) for message in cycles.values()] + signals


def moved(inputs: Sequence[object], by_us: int) -> list[Any]:
    """The same inputs at another time."""
    found: list[Any] = []
    for item in inputs:
        if isinstance(item, SampleBatch):
            found.append(replace(item, source_at=item.source_at + by_us, server_at=item.server_at + by_us))
        elif isinstance(item, LineEvent):
            found.append(msgspec.structs.replace(item, source_at=item.source_at + by_us))
        elif isinstance(item, Tick):
            found.append(msgspec.structs.replace(item, complete_until=item.complete_until + by_us))
    return found


def arrived(cluster: Cluster) -> list[Arrived]:
    """All that is on `telemetry.v1` of the one cell, in order, doubles of the collector's own sending dropped."""
    found: list[Arrived] = []
    last = (0, -1)
    for records in read_topic(cluster).values():
        for record in records:
            each = decode_message(record.key, record.value, record.headers)
            if (each.input.epoch, each.input.seq) > last:
                last = (each.input.epoch, each.input.seq)
                found.append(each)
    return found


def samples(found: Sequence[Arrived], tag: int) -> list[tuple[int, float]]:
    """(source time, value) of one tag, in order of arrival, repeated ones too."""
    columns = [
        (each.input.source_at[each.input.tag == tag], each.input.value[each.input.tag == tag])
        for each in found
        if isinstance(each.input, SampleBatch)
    ]
    return [pair for at, value in columns for pair in zip(at.tolist(), np.asarray(value).tolist(), strict=True)]


def late(found: Sequence[Arrived]) -> list[int]:
    """Microseconds by which samples came after a tick had called their time complete."""
    complete, late = 0, list[int]()
    for each in found:
        if isinstance(each.input, Tick):
            complete = max(complete, each.input.complete_until)
        elif isinstance(each.input, SampleBatch):
            late += (complete - each.input.source_at[each.input.source_at <= complete]).tolist()
    return late


def committed(cluster: Cluster, topic: str, partition: int = 0, group: str = "jidoka-collect-cell1") -> int | None:
    """How far the broker knows the collector to be; None: it knows nothing, or has just started."""
    with admin_of(cluster) as admin, contextlib.suppress(RetriableError):
        place = admin.list_group_offsets(group)[group].get(TopicPartition(topic, partition))
        return None if place is None or place.offset < 0 else place.offset
    return None
