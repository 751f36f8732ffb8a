"""Messages that nobody can use, on all topics that are read: each must become a dead letter, and stop nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from kafka import KafkaProducer

from connectors.kafka.codec import Message, encode_message
from connectors.kafka.reading import read_range
from schemas.facts import OperatorRequested, SourceSilent, encode
from schemas.observations import decode_observation, encode_observation
from schemas.samples import Tick
from schemas.topics import partition_of
from tests.support.kafka_broker import plain
from tests.support.kafka_faults.judging import dead_letters
from tests.support.kafka_faults.line import LOOK_S, PATIENCE_S, Line

HUGE_BYTES = 1_000_000
"""Just what a broker takes."""
TELEMETRY, ANOMALIES, OPERATORS = "telemetry.v1", "anomalies.v1", "operator-requests.v1"


class Poison(NamedTuple):
    """A message and what is wrong with it."""

    what: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


async def poisoned(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """Put everything that is wrong among what is right, and see that each is told and nothing ended."""
    before = line.starts
    sent = await asyncio.to_thread(_send, line, list(poisons(line, rng)))
    line.recovered_s["poisoned"] = await line.flowing()
    line.recovered_s["poisoned: decided"] = await line.decided()
    untold = await _told(line, sent)
    line.wrong += [f"{sent[origin]}: no dead letter from {origin}" for origin in untold]
    if line.starts != before:
        line.wrong.append(f"poison ended a process: {before} starts became {line.starts}")


async def _told(line: Line, sent: dict[str, str]) -> set[str]:
    """Wait until there is a letter for each; returns those without."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        letters = [dict(letter.headers) for letter in await asyncio.to_thread(dead_letters, line)]
        untold = set(sent) - {each["dead_origin"].decode().partition(" ")[2] for each in letters if each["dead_reason"]}
        if not untold or time.monotonic() > until_s:
            return untold
        await asyncio.sleep(LOOK_S * 10)


def _send(line: Line, poisons: list[Poison]) -> dict[str, str]:
    """Returns what was sent, by where it lies."""
    producer = KafkaProducer(**plain(line.cluster), acks="all", max_request_size=2 * HUGE_BYTES)
    partitions = line.configuration.settings.kafka.partitions
    try:
        sent: dict[str, str] = {}
        for each in poisons:
            number = partition_of((each.key or b"").decode(errors="replace"), partitions)
            future = producer.send(each.topic, each.value, each.key, list(each.headers), number)
            place = future.get(timeout=30)
            sent[f"{place.topic}/{place.partition}/{place.offset}"] = each.what
        return sent
    finally:
        producer.close()


def poisons(line: Line, rng: np.random.Generator) -> Iterator[Poison]:
    """Everything that is wrong, for every topic."""
    cell = line.configuration.plant.cells[int(rng.integers(len(line.configuration.plant.cells)))].path
    good = _last(line, TELEMETRY, cell)
    yield from _telemetry(good, rng)
    yield from _observations(_last(line, ANOMALIES, cell), cell, rng)
    yield from _requests(line, cell, rng)


def _telemetry(good: Message, rng: np.random.Generator) -> Iterator[Poison]:
    key, value, headers = good.key, good.value, good.headers
    said = dict(headers)
    tick = Tick("poison", 1, 0, 1, alive=True)
    for what, message in (
        ("random bytes", Message(key, rng.bytes(200), ())),
        ("random bytes under good headers", Message(key, rng.bytes(len(value)), headers)),
        ("a cut value", Message(key, value[: len(value) // 2], headers)),
        ("a wrong hash", Message(key, value, tuple({**said, "sha256": b"0" * 64}.items()))),
        ("a header less", Message(key, value, headers[1:])),
        ("another number in the headers", Message(key, value, tuple({**said, "seq": b"1" * 30}.items()))),
        ("a huge value", Message(key, rng.bytes(HUGE_BYTES), headers)),
        ("a huge header", Message(key, value, (("junk", rng.bytes(HUGE_BYTES)),))),
        ("a huge key", Message(b"k" * HUGE_BYTES, value, headers)),
        ("an unknown cell", encode_message("jidoka/load/assembly/line1/nobody", 1, tick, "0" * 64)),
        ("another tag table", encode_message(key.decode(), 1, tick, "0" * 64)),
    ):
        yield Poison(what, TELEMETRY, message.key, message.value, message.headers)
    yield Poison("no key", TELEMETRY, None, value, headers)
    yield Poison("no value", TELEMETRY, key, None, headers)


def _observations(good: Message, cell: str, rng: np.random.Generator) -> Iterator[Poison]:
    observation = decode_observation(good.value)
    far = msgspec.structs.replace(observation, position=2**63)
    unknown = msgspec.structs.replace(observation, cell="jidoka/load/assembly/line1/nobody")
    for what, value in (
        ("random bytes", rng.bytes(200)),
        ("a cut observation", good.value[: len(good.value) // 2]),
        ("a huge value", rng.bytes(HUGE_BYTES)),
        ("endless brackets", b'{"facts":' + b"[" * 100_000),
        ("an observation out of range", encode_observation(far)),
        ("an observation under another cell's key", encode_observation(unknown)),
        ("an empty value", b""),
    ):
        yield Poison(what, ANOMALIES, cell.encode(), value)
    yield Poison("an unknown cell", ANOMALIES, unknown.cell.encode(), encode_observation(unknown))
    yield Poison("no value", ANOMALIES, cell.encode(), None)
    yield Poison("no key", ANOMALIES, None, encode_observation(observation))


def _requests(line: Line, cell: str, rng: np.random.Generator) -> Iterator[Poison]:
    request = OperatorRequested(at=line.clock.now_us(), request_id="poison", who="nobody", kind="note", reason="x")
    another = SourceSilent(at=line.clock.now_us(), source=cell, silent_s=1.0)
    for what, value in (
        ("random bytes", rng.bytes(200)),
        ("a cut request", encode(request)[:-5]),
        ("a huge value", rng.bytes(HUGE_BYTES)),
        ("endless brackets", b'{"args":' + b"[" * 100_000),
        ("a fact of another type", encode(another)),
    ):
        yield Poison(what, OPERATORS, cell.encode(), value)
    yield Poison("an unknown cell", OPERATORS, b"jidoka/load/assembly/line1/nobody", encode(request))
    yield Poison("no key", OPERATORS, None, encode(request))
    yield Poison("no value", OPERATORS, cell.encode(), None)


def _last(line: Line, topic: str, cell: str) -> Message:
    """The newest good message of a cell."""
    number = partition_of(cell, line.configuration.settings.kafka.partitions)
    mine = [record for record in read_range(plain(line.cluster), topic, number, 0) if record.key == cell.encode()]
    return Message(mine[-1].key, mine[-1].value, tuple(mine[-1].headers))
