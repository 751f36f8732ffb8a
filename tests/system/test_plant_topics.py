"""A plant's own JSON topics as a cell's input, on a real broker: what is there arrives, whoever is killed or away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest
from kafka import TopicPartition

from connectors.clock import SystemClock
from connectors.kafka.codec import encode_message, tag_table_sha256
from connectors.kafka.plant_topics import PlantTopics
from pipelines.config import load
from pipelines.detectors.suite import Suite
from pipelines.stages.partition import Partition
from pipelines.stages.sequence import Sequence as InputSequence
from pipelines.streams import read_messages, streams_by_cell, understand
from schemas.facts import AnomalyCleared, AnomalyDetected, CalibrationAdopted, LineStateChanged
from schemas.samples import Gap, Input, Kept, SampleBatch, Tick
from tests.support import plant_topics_trials as trials
from tests.support.both_runtimes import recording
from tests.support.collecting_trials import until
from tests.support.kafka_broker import admin_of, emptied, own_broker
from tests.support.plant_topics import (
    CYCLES,
    EXAMPLES,
    SIGNALS,
    arrived,
    collector,
    committed,
    configured,
    late,
    messages_of,
    moved,
    producing,
    put,
    signal,
)
from tests.support.quick_plant import quick_plant
from tests.support.staged import MemoryStates

S = 1_000_000
DIRECT = "direct:cell1"


@pytest.fixture
def config(tmp_path, kafka_broker):
    return configured(tmp_path / "config", emptied(kafka_broker))


def now_us() -> int:
    return SystemClock().now_us()


# ---- the same as if it had come directly


def test_two_forms_of_messages_come_to_the_same_rows_and_episodes_as_their_samples_given_directly(config, kafka_broker):
    configuration = load(config)
    (cell,) = configuration.plant.cells
    story = recording(quick_plant(configuration), [("", 40.0), ("oil_on_pads", 10.0)])
    ends_at = max(item.complete_until for item in story if isinstance(item, Tick))
    inputs = moved(story, (now_us() - ends_at) // S * S)
    last_at = max(int(item.source_at.max()) for item in inputs if isinstance(item, SampleBatch))
    with producing(kafka_broker) as producer:
        put(producer, messages_of(inputs, {tag.id: tag.name for tag in cell.tags}))
    with collector(config):
        found = until_complete(kafka_broker, last_at + 3 * S)
    live = InputSequence()
    kept = [each for arrival in found for each in live.take(arrival.at, arrival.input)]
    assert Counter(type(each.input).__name__ for each in kept)["Gap"] == 0
    # Told directly are the first and the last of the live ticks, and between them the plant's own: rows are the same,
    # however often they are asked for.
    first_at = min(int(item.source_at.min()) for item in inputs if isinstance(item, SampleBatch)) - 1
    until_at = max(each.input.complete_until for each in kept if isinstance(each.input, Tick))
    direct = [Tick(DIRECT, 1, 0, first_at, True), *inputs, Tick(DIRECT, 1, 0, until_at, True)]
    kept_directly = [Kept(n, until_at, item) for n, item in enumerate(direct, 1)]
    assert late(found) == []
    rows, episodes = judged(cell, kept)
    rows_directly, episodes_directly = judged(cell, kept_directly)
    assert set(rows) ^ set(rows_directly) == set()
    assert episodes == episodes_directly
    assert len(rows) > 100
    assert len(episodes) > 0
    assert ("limit", "part_slip_mm") in {(each[1], each[2]) for each in episodes}
    by_worker = [fact for fact in asyncio.run(through_partition(configuration, found)) if is_episode(fact)]
    assert sorted(episode(fact) for fact in by_worker) == episodes


def until_complete(cluster, at: int):
    """Everything that arrived, once a tick says that all is there up to a time."""
    found = []

    def there() -> bool:
        found[:] = arrived(cluster)
        return any(isinstance(each.input, Tick) and each.input.complete_until >= at for each in found)

    until(there, "complete", within_s=40.0)
    return found


def judged(cell, kept: Sequence[Kept]):
    """Rows to the last bit, and episodes, of inputs."""
    suite, rows, facts = Suite(cell), [], []
    for each in kept:
        fed = suite.feed(each)
        rows += [(r.group, r.start_at, r.end_at, r.values.tobytes(), r.fresh.tobytes(), r.flags.tobytes())
                 for r in fed.rows]  # fmt: skip
        facts += fed.facts
    assert any(isinstance(fact, CalibrationAdopted) for fact in facts)
    assert [fact.state for fact in facts if isinstance(fact, LineStateChanged)] == ["EXECUTE"]
    # Two groups close rows side by side: in which order depends on how often was asked.
    return sorted(rows), sorted(episode(fact) for fact in facts if is_episode(fact))


def is_episode(fact: object) -> bool:
    return isinstance(fact, AnomalyDetected | AnomalyCleared)


def episode(fact) -> tuple[str, ...]:
    if isinstance(fact, AnomalyCleared):
        return fact.episode_id, "cleared", fact.reason
    return fact.episode_id, fact.detector, fact.tag, fact.direction, str(fact.onset_at), fact.detail


async def through_partition(configuration, found) -> list[object]:
    """The facts that a worker makes of what arrived."""
    (cell,) = configuration.plant.cells

    async def none_given(path: str) -> int:
        return 0

    part = Partition(
        {cell.path: configuration.rules_for(cell)}, MemoryStates(), snapshot_bytes=10**9, snapshot_us=10**12,
        last_given=none_given, warn=pytest.fail,
    )  # fmt: skip
    facts: list[object] = []
    for offset, each in enumerate(found):
        message = encode_message(cell.path, each.at, each.input, tag_table_sha256(cell))
        for seen in await part.take(offset, message.key, message.value, message.headers):
            facts += seen.observation.facts if seen.observation is not None else ()
    return facts


# ---- nothing is lost


def test_killed_collector_misses_no_sample_of_the_topic_and_puts_aside_what_is_no_json(tmp_path, kafka_broker):
    assert trials.collector_killed(tmp_path, emptied(kafka_broker), seed=1) == []


def test_broker_that_is_away_costs_nothing_and_is_told(tmp_path):
    with own_broker(tmp_path / "kafka") as cluster:
        assert trials.broker_away(tmp_path, cluster, seed=1, away_s=7.0) == []


# ---- one cell's source, taken apart


class Shelf:
    """Where a source gives to: a list, and a spool that syncs when it is told."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.position = self.synced = 0
        self.syncing = True

    async def sink(self, item: Input) -> None:
        self.inputs.append(item)
        self.position += 1
        self.synced = self.position if self.syncing else self.synced

    def values(self) -> set[float]:
        batches = [item for item in self.inputs if isinstance(item, SampleBatch)]
        return {value for item in batches for value in item.value.tolist()}


def source(config, kept: Shelf, *, epoch: int = 1, ended_at: int | None = None) -> PlantTopics:
    configuration = load(config)
    (cell,) = configuration.plant.cells
    assert configuration.settings.kafka is not None
    return PlantTopics(
        cell, streams_by_cell(configuration)[cell.id], configuration.settings.kafka, SystemClock(), kept,
        epoch=epoch, ended_at=ended_at,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def running(plant: PlantTopics, kept: Shelf):
    task = asyncio.create_task(plant.run(kept.sink))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def reached(holds: Callable[[], bool | Awaitable[bool]], what: str, within_s: float = 20.0) -> None:
    ends_s = time.monotonic() + within_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < ends_s, what
        await asyncio.sleep(0.05)


def put_counts(cluster, *counts: int) -> None:
    with producing(cluster) as producer:
        for count in counts:
            topic, key, value = signal(now_us(), "part_count", count)
            producer.send(topic, json.dumps(value).encode(), key, partition=0)


def test_nothing_is_committed_that_the_spool_has_not_synced(config, kafka_broker):
    async def go() -> None:
        kept = Shelf()
        kept.syncing = False
        plant = source(config, kept)
        async with running(plant, kept):
            put_counts(kafka_broker, 1, 2, 3)
            await reached(lambda: kept.values() == {1, 2, 3}, "they are given")
            ticks = sum(isinstance(item, Tick) for item in kept.inputs)
            await reached(lambda: sum(isinstance(i, Tick) for i in kept.inputs) >= ticks + 3, "seconds pass")
            assert committed(kafka_broker, SIGNALS) == 0
            kept.syncing = True
            await reached(lambda: committed(kafka_broker, SIGNALS) == 3, "committed")
        assert (plant.counters.messages_n, plant.counters.used_n, plant.fault) == (3, 3, "")

    asyncio.run(go())


def test_of_two_collectors_of_a_cell_the_newer_one_reads_and_the_other_takes_over_when_it_ends(config, kafka_broker):
    async def go() -> None:
        old, new = Shelf(), Shelf()
        async with running(source(config, old, epoch=1), old):
            put_counts(kafka_broker, 1)
            await reached(lambda: old.values() == {1}, "the old one reads")
            await reached(lambda: committed(kafka_broker, SIGNALS) == 1, "and says so")
            async with running(source(config, new, epoch=2), new):
                await reached(
                    lambda: any(isinstance(i, Tick) and i.alive is False for i in old.inputs), "old one waits"
                )
                put_counts(kafka_broker, 2)
                await reached(lambda: new.values() == {2}, "the new one reads behind it")
                await reached(lambda: committed(kafka_broker, SIGNALS) == 2, "and says so")
            put_counts(kafka_broker, 3)
            await reached(lambda: old.values() == {1, 3}, "the old one goes on behind that")

    asyncio.run(go())


def test_first_start_begins_at_the_end_unless_told_and_a_second_one_goes_on_from_there(config, kafka_broker):
    path = config / "streams.toml"
    path.write_text(path.read_text().replace('from = "earliest"', 'from = "latest"'))

    async def go() -> None:
        put_counts(kafka_broker, 1, 2)
        kept = Shelf()
        async with running(source(config, kept), kept):
            await reached(lambda: committed(kafka_broker, SIGNALS) == 2, "the beginning is noted")
        put_counts(kafka_broker, 3)
        again = Shelf()
        async with running(source(config, again, epoch=2, ended_at=now_us()), again):
            await reached(lambda: again.values() == {3}, "what came meanwhile")
        assert kept.values() == set()
        assert not [item for item in again.inputs if isinstance(item, Gap)]

    asyncio.run(go())


def test_messages_that_the_topic_deleted_before_they_were_read_are_a_gap(config, kafka_broker):
    async def go() -> None:
        kept = Shelf()
        async with running(source(config, kept), kept):
            put_counts(kafka_broker, 1)
            await reached(lambda: committed(kafka_broker, SIGNALS) == 1, "it reads")
        put_counts(kafka_broker, 2, 3, 4)
        with admin_of(kafka_broker) as admin:
            admin.delete_records({TopicPartition(SIGNALS, 0): 3})
        again, ended_at = Shelf(), now_us() - 60 * S
        async with running(source(config, again, epoch=2, ended_at=ended_at), again):
            await reached(lambda: again.values() == {4}, "what is left")
        (gap,) = [item for item in again.inputs if isinstance(item, Gap)]
        assert (gap.source, gap.from_at, gap.tags) == ("kafka:cell1", ended_at, ())
        assert gap.reason == "line1.signals/0: messages 1 to 2 were deleted before they were read"

    asyncio.run(go())


def test_a_plants_topic_that_is_missing_is_named_and_read_once_it_is_there(config, kafka_broker):
    with admin_of(kafka_broker) as admin:
        admin.delete_topics([CYCLES])
        until(lambda: CYCLES not in admin.list_topics(), "it is gone")

    async def go() -> None:
        kept = Shelf()
        plant = source(config, kept)
        async with running(plant, kept):
            await reached(lambda: "there is no topic line1.cycles. Correct the name." in plant.fault, "it is named")
            with admin_of(kafka_broker) as admin:
                admin.create_topics({CYCLES: {"num_partitions": 1}}, wait_for_metadata=True)
            put_counts(kafka_broker, 1)
            await reached(lambda: kept.values() == {1}, "it is read")

    asyncio.run(go())


def test_values_that_cannot_be_used_are_counted_by_kind_and_told_once_where_the_rest_was_used(config, kafka_broker):
    async def go() -> None:
        kept = Shelf()
        plant = source(config, kept)
        message = {"machine": "cell1", "ms": now_us() / 1000, "values": {"count": 1, "took": "long"}}
        with producing(kafka_broker) as producer:
            for _ in range(3):
                producer.send(CYCLES, json.dumps(message).encode(), b"cell1")
            producer.send(CYCLES, json.dumps({**message, "machine": "cell2"}).encode(), b"cell2")
            producer.send(SIGNALS, b"{}", b"cell1")
        async with running(plant, kept):
            await reached(lambda: len(trials.letters(kafka_broker)) == 2, "letters")
        counters = plant.counters
        assert (counters.messages_n, counters.used_n, counters.not_ours_n, counters.refused_n) == (5, 3, 1, 1)
        assert counters.reasons == {"number": 3, "not mapped": 1}
        reasons = sorted(dict(letter.headers)["dead_reason"].decode() for letter in trials.letters(kafka_broker))
        assert reasons[1] == "used in part: cycle_time_s: 'long' at 'values.took' is no number"
        assert reasons[0].startswith("nothing in it is mapped")

    asyncio.run(go())


# ---- the example


def test_example_is_understood_whole_by_the_dry_run(tmp_path, config):
    configuration = load(config)
    entries = [entry for entries in streams_by_cell(configuration).values() for entry in entries]
    messages = read_messages(EXAMPLES / "streams_messages.jsonl", [entry.stream.topic for entry in entries], 100)
    found = understand(entries, messages)
    assert (found.clean, found.silent, found.used_n, found.not_ours_n) == (True, (), 11, 2)
