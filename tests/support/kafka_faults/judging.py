"""What must hold after faults on a line: judged from what was synced, what lies on the topics, and the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

from connectors.eventlog.reader import open_readonly
from connectors.kafka.broker import Cluster
from connectors.kafka.codec import decode_message
from connectors.kafka.reading import read_range
from pipelines.config import Configuration
from pipelines.hosting import Folders
from pipelines.proof import prove
from pipelines.stages.cell_stage import CellStage
from pipelines.stages.observed import Acceptance
from pipelines.stages.sequence import Sequence
from schemas.errors import CodecError
from schemas.facts import Detected
from schemas.observations import Delivered, Observation, decode_observation, encode_observation
from schemas.samples import Gap, SampleBatch
from tests.support.kafka_broker import plain
from tests.support.kafka_faults.feeding import MARK_TAG
from tests.support.kafka_faults.line import PATIENCE_S, Line

LOOK_S = 0.5
DETECTED = get_args(Detected)


@dataclass
class Expected:
    """What one cell's messages must come to: a run without any fault, in this process, over the same messages."""

    observations: list[Observation] = field(default_factory=list)
    samples_n: int = 0
    """Of the batches, in order, each once."""
    gaps: list[str] = field(default_factory=list)
    repeated_n: int = 0
    out_of_order: list[str] = field(default_factory=list)


def expected_of(cluster: Cluster, configuration: Configuration) -> tuple[dict[str, Expected], int]:
    """Run detection over all that lies on `telemetry.v1`; returns what comes of each cell, and what nobody can read."""
    rules = {cell.path: configuration.rules_for(cell) for cell in configuration.plant.cells}
    stages = {path: CellStage(r, snapshot_bytes=configuration.settings.segments.bytes_max) for path, r in rules.items()}
    orders = {path: Sequence() for path in rules}
    found, unreadable_n = {path: Expected() for path in rules}, 0
    for record in _records(cluster, configuration, "telemetry.v1"):
        try:
            arrived = decode_message(record.key, record.value, tuple(record.headers))
            if arrived.cell not in rules:
                continue
            seen = stages[arrived.cell].take(record.offset, arrived, len(record.value or b""))
        except CodecError:
            unreadable_n += 1
            continue
        expected = found[arrived.cell]
        expected.observations += [each.observation for each in seen if each.observation is not None]
        for kept in orders[arrived.cell].take(arrived.at, arrived.input):
            _count(expected, kept.input)
        expected.repeated_n = orders[arrived.cell].counts.repeated
    return found, unreadable_n


def _count(expected: Expected, item: Any) -> None:
    if isinstance(item, Gap):
        expected.gaps.append(item.reason)
    if not isinstance(item, SampleBatch) or int(item.tag[-1]) != MARK_TAG:
        return
    if int(item.value[-1]) != expected.samples_n:
        expected.out_of_order.append(f"a batch behind {int(item.value[-1])} samples came behind {expected.samples_n}")
    expected.samples_n = int(item.value[-1]) + len(item)


@dataclass
class Accepted:
    """What a decision service takes of one cell's observations."""

    observations: list[Observation] = field(default_factory=list)
    repeated_n: int = 0
    broken: list[str] = field(default_factory=list)
    acceptance: Acceptance = field(default_factory=lambda: Acceptance({}))


def accepted_of(cluster: Cluster, configuration: Configuration) -> dict[str, Accepted]:
    """Take all that lies on `anomalies.v1` as the decision service does."""
    found = {cell.path: Accepted() for cell in configuration.plant.cells}
    for record in _records(cluster, configuration, "anomalies.v1"):
        try:
            observation = decode_observation(record.value or b"")
        except CodecError:
            continue
        accepted = found.get(observation.cell)
        if accepted is None or record.key != observation.cell.encode():
            continue
        if not accepted.acceptance.accepts(Delivered(record.offset, observation)):
            accepted.repeated_n += 1
            continue
        if accepted.acceptance.broken:
            accepted.broken.append(accepted.acceptance.broken)
        accepted.observations.append(observation)
    return found


def _records(cluster: Cluster, configuration: Configuration, topic: str) -> Iterator[Any]:
    assert configuration.settings.kafka is not None
    for number in range(configuration.settings.kafka.partitions):
        yield from read_range(plain(cluster), topic, number, 0)


async def judged(line: Line, *, gaps_n: int = 0) -> list[str]:
    """End the load, let everything be done, and say what is wrong; empty: nothing.

    Args:
        line: Running.
        gaps_n: Messages that were withheld for good, each a gap.
    """
    wrong = [*line.wrong]
    wrong += [] if await line.end_feeding() == 0 else ["the collector ended with an error: see feeder.log"]
    synced = dict(line.synced)
    if line.lost_n:
        wrong.append(f"the collector lost {line.lost_n} samples for want of room")
    expected, unreadable_n, accepted = await _observed(line)
    wrong += _samples(expected, synced, gaps_n)
    wrong += _observations(expected, accepted)
    if "decide" in line.names:
        wrong += await _decided(line)
        # In order, so that decisions and kept input reach to the end.
        await asyncio.gather(*(line.stop(name) for name in ("decide", "keep")))
        proof = await asyncio.to_thread(prove, line.configuration.data)
        wrong += [] if proof.good else [f"no proof: {proof.text}"]
    letters = await asyncio.to_thread(dead_letters, line)
    told_n = len({dict(letter.headers)["dead_origin"] for letter in letters})
    if told_n < unreadable_n:
        wrong.append(f"{unreadable_n} messages of telemetry.v1 cannot be read, and letters tell of {told_n}")
    return wrong


def dead_letters(line: Line) -> list[Any]:
    """Everything on `dead-letters.v1`."""
    return list(_records(line.cluster, line.configuration, "dead-letters.v1"))


def _samples(expected: dict[str, Expected], synced: dict[str, int], gaps_n: int) -> list[str]:
    wrong = []
    for path, each in expected.items():
        if each.samples_n < synced.get(path, 0):
            wrong.append(f"{path}: {synced[path]} samples synced in the spool, {each.samples_n} came")
        if not synced.get(path):
            wrong.append(f"{path}: nothing was fed")
        if not gaps_n:
            wrong += [f"{path}: {text}" for text in each.out_of_order]
    gaps = [reason for each in expected.values() for reason in each.gaps]
    if len(gaps) != gaps_n:
        wrong.append(f"{len(gaps)} gaps instead of {gaps_n}: {gaps[:3]}")
    return wrong


async def _observed(line: Line) -> tuple[dict[str, Expected], int, dict[str, Accepted]]:
    """Wait until all is observed, or nothing more comes for a long time."""
    until_s, before = time.monotonic() + PATIENCE_S, -1
    while True:
        # In this order: what comes meanwhile (a watch tells that nobody feeds any more) is waited for in the next look.
        accepted = await asyncio.to_thread(accepted_of, line.cluster, line.configuration)
        count = sum(len(each.observations) for each in accepted.values())
        if count > before:
            before, until_s = count, time.monotonic() + PATIENCE_S
        else:  # The costly half is done when the other one has come to rest.
            began_s = time.monotonic()
            expected, unreadable_n = await asyncio.to_thread(expected_of, line.cluster, line.configuration)
            until_s += time.monotonic() - began_s  # What came meanwhile has as long as what came before.
            wanted = sum(len(each.observations) for each in expected.values())
            if wanted == count or time.monotonic() > until_s:
                return expected, unreadable_n, accepted
        await asyncio.sleep(LOOK_S)


def _observations(expected: dict[str, Expected], accepted: dict[str, Accepted]) -> list[str]:
    wrong = []
    for path, each in expected.items():
        wanted = [encode_observation(o) for o in each.observations]
        got = [encode_observation(o) for o in accepted[path].observations]
        wrong += [f"{path}: {text}" for text in accepted[path].broken]
        if got != wanted:
            pairs = zip(got, wanted, strict=False)
            at = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(got), len(wanted)))
            wrong.append(
                f"{path}: {len(got)} observations instead of {len(wanted)}, of which number {at} is the first other "
                f"one: {got[at : at + 1]} instead of {wanted[at : at + 1]}"
            )
        if not any(o.facts for o in each.observations):
            wrong.append(f"{path}: nothing was detected, so nothing is proven")
    return wrong


async def _decided(line: Line) -> list[str]:
    """Compare what detection said with what the log says it said."""
    until_s, before = time.monotonic() + PATIENCE_S, -1
    while True:
        # Both anew with each look: a watch says once more that nobody feeds, and that is a fact like others.
        logged = await _logged(line)
        accepted = await asyncio.to_thread(accepted_of, line.cluster, line.configuration)
        wanted = {path: [fact for o in each.observations for fact in o.facts] for path, each in accepted.items()}
        wrong = [
            f"{path}: the log has {len(logged.get(path, []))} facts, or others than the {len(said)} that detection gave"
            for path, said in wanted.items()
            if logged.get(path, []) != said
        ]
        count = sum(len(said) for said in logged.values())
        if count > before:
            before, until_s = count, time.monotonic() + PATIENCE_S
        if not wrong or time.monotonic() > until_s:
            return wrong
        await asyncio.sleep(LOOK_S)


async def _logged(line: Line) -> dict[str, list[Any]]:
    store = open_readonly(Folders(line.configuration.data).log)
    found: dict[str, list[Any]] = {}
    try:
        async for record in store.read_all():
            if isinstance(record.fact, DETECTED):
                found.setdefault(record.cell, []).append(record.fact)
    finally:
        await store.close()
    return found
