"""The collector on a real broker: whoever is killed or away, what was synced arrives, in order, doubles dropped."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from connectors.kafka.codec import Arrived, decode_message
from connectors.kafka.intake import numbered
from connectors.kafka.spool import Spool
from connectors.recordings.play import play
from connectors.recordings.sniff import sniff
from pipelines.collect import collect_recording, spooling
from schemas.errors import ConfigError
from schemas.plant import Cell
from schemas.samples import Gap, Kept, LineEvent, SampleBatch, Tick
from schemas.settings import KafkaSettings
from tests.eventlog_support import same_input
from tests.feeding import small_cell
from tests.support import collecting_trials as trials
from tests.support.bench import Bench, Process, jidoka
from tests.support.collecting import read_topic, stories
from tests.support.kafka_broker import admin_of, emptied, own_broker, settings_of, three_brokers
from tests.support.quick_plant import CONFIG

PATIENCE_S = 40.0


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    """A broker that these tests kill and start again."""
    with own_broker(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


def test_killed_collector_loses_nothing_that_was_synced(tmp_path, kafka_broker):
    assert trials.collector_killed(tmp_path / "trial", emptied(kafka_broker), seed=1, kills_n=2) == []


def test_killed_broker_costs_no_sample_and_no_order(tmp_path, mortal):
    assert trials.broker_killed(tmp_path / "trial", emptied(mortal), seed=1) == []


def test_broker_that_is_away_costs_no_sample_and_no_order(tmp_path, mortal):
    assert trials.broker_away(tmp_path / "trial", emptied(mortal), seed=2, away_s=3.0) == []


def test_one_of_three_brokers_killed_costs_no_sample_and_no_order(tmp_path):
    with three_brokers(tmp_path / "kafka") as cluster:
        assert trials.one_of_three_killed(tmp_path / "trial", cluster, seed=1) == []


@pytest.fixture
def topics(kafka_broker):
    apply_topics(settings_of(emptied(kafka_broker)))
    return kafka_broker


def until(holds, what: str) -> None:
    trials.until(holds, what, PATIENCE_S)


def on_topic(cluster: Cluster) -> list[Arrived]:
    found = [record for records in read_topic(cluster).values() for record in records]
    return [decode_message(record.key, record.value, record.headers) for record in found]


def batch(n: int, *, at: int = 10) -> SampleBatch:
    times = np.arange(at, at + n, dtype=np.int64)
    tags = np.arange(n, dtype=np.uint32) % 3
    return SampleBatch("s", 0, 0, tags, times, times, np.ones(n), np.zeros(n, np.uint32))


def opened(folder: Path, cluster: Cluster, cell: Cell, partitions: int | None = 3):
    settings = settings_of(cluster)
    return spooling(folder, [cell], settings, partitions=partitions, bytes_max=5_000_000)


def test_a_message_that_the_broker_refuses_for_good_is_a_dead_letter_and_a_gap_in_its_place(tmp_path, topics):
    shrink(topics, 20_000)
    cell = small_cell()
    with opened(tmp_path, topics, cell) as collecting:
        collecting.take(cell, 1, Tick("s", 0, 0, 1, alive=True))
        collecting.take(cell, 2, batch(10))
        collecting.take(cell, 3, batch(2_000, at=50))
        for at in range(4, 40):
            collecting.take(cell, at, LineEvent("s", 0, 0, "text", at, 0, "after"))
        until(lambda: collecting.spool.empty, "everything but one goes on")
        figures = collecting.figures(100)
    assert (figures.refused_n, figures.lost_samples_n) == (1, 2_000)
    arrived = sorted({each.input.seq: each for each in on_topic(topics)}.values(), key=lambda each: each.input.seq)
    assert [each.input.seq for each in arrived] == list(range(39))
    gap = arrived[2].input
    assert isinstance(gap, Gap)
    assert (gap.tags, gap.from_at, gap.until_at) == ((0, 1, 2), 50, 2_049)
    assert gap.reason == "refused by the broker: MessageSizeTooLargeError"
    (letter,) = [record for records in read_topic(topics, "dead-letters.v1").values() for record in records]
    said = dict(letter.headers)
    assert letter.key == cell.path.encode()
    assert b"MessageSizeTooLarge" in said["dead_reason"]
    assert said["dead_origin"].startswith(b"collect telemetry.v1/")
    assert (said["n"], len(letter.value)) == (b"2000", 10_000)


def shrink(cluster: Cluster, bytes_max: int) -> None:
    """Let the topic take small messages only."""
    with admin_of(cluster) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, "telemetry.v1", {"max.message.bytes": str(bytes_max)})
        admin.alter_configs([resource])


def test_another_number_of_partitions_than_configured_ends_the_collector(tmp_path, topics):
    with opened(tmp_path, topics, small_cell(), partitions=7) as collecting:
        until(lambda: collecting.failure is not None, "it ends")
        assert isinstance(collecting.failure, ConfigError)
        assert "kafka.partitions: 7, and telemetry.v1 has 3" in str(collecting.failure)


def test_without_topics_it_spools_says_what_to_do_and_sends_once_they_are_there(tmp_path, kafka_broker):
    cell = small_cell()
    with opened(tmp_path, emptied(kafka_broker), cell) as collecting:
        collecting.take(cell, 1, Tick("s", 0, 0, 1, alive=True))
        until(lambda: "Run: jidoka topics apply" in collecting.forwarder.fault, "it says so")
        assert not collecting.figures(2).connected
        apply_topics(settings_of(kafka_broker))
        until(lambda: collecting.spool.empty, "it sends")
        assert collecting.figures(2).retries_n > 0
    assert len(on_topic(kafka_broker)) == 1


def test_a_broker_that_was_never_there_keeps_nobody_from_collecting_or_ending(tmp_path):
    cell = small_cell()
    nowhere = KafkaSettings(bootstrap=("127.0.0.1:1",))
    began_s = time.monotonic()
    with spooling(tmp_path, [cell], nowhere, partitions=3, bytes_max=5_000_000, flush_s=0.5) as collecting:
        collecting.take(cell, 5_000_000, Tick("s", 0, 0, 1, alive=True))
        until(lambda: "nothing listens there" in collecting.forwarder.fault, "it says so")
        figures = collecting.figures(9_000_000)
        assert (figures.unacknowledged_n, figures.taken_n) == (1, 1)
    assert time.monotonic() - began_s < PATIENCE_S
    spool = Spool(tmp_path, bytes_max=5_000_000, first_epoch=1)
    assert len(spool.read(after=0, bytes_max=1)) == 1
    spool.close()


def test_a_recording_arrives_as_it_is_played_with_its_watermark_as_time(tmp_path, topics):
    path = tmp_path / "press.csv"
    rows = [f"2026-03-01T10:{n // 60:02}:{n % 60:02}Z,{n},{n * 0.5}" for n in range(500) if not 200 < n < 300]
    path.write_text("\n".join(["time,force,temp", *rows]) + "\n")
    came = collect_recording(path, settings_of(topics), partitions=None)
    known = sniff(path)
    played = list(play(path, known.mapping, known.cell))
    arrived = on_topic(topics)
    assert came.taken_n == len(played) == len(arrived)
    assert [each.input.seq for each in arrived] == list(range(len(played)))
    at = 0
    for sent, got in zip(played, arrived, strict=True):
        at = sent.complete_until if isinstance(sent, Tick) else at
        assert (got.cell, got.at) == (known.cell.path, at)
        assert same_content(sent, got.input)
    assert jidoka("collect", "--recording", path, "--kafka", topics.bootstrap[0]).out == (
        f"{path}: {len(played)} messages, {came.taken_samples_n} samples, 0 refused\n"
    )
    assert len({(each.input.epoch, each.input.seq) for each in on_topic(topics)}) == 2 * len(played)


def same_content(sent, got) -> bool:
    """Equal but for epoch and seq."""
    return same_input(Kept(1, 1, numbered(sent, 1, 1)), Kept(1, 1, numbered(got, 1, 1)))


def test_the_command_collects_a_cell_ends_in_order_and_goes_on_after_kill_minus_9(tmp_path, topics):
    bench = Bench(tmp_path)
    try:
        bench.edit("jidoka.toml", 'mode = "act"', 'mode = "observe"')
        words = ("pipelines.cli", "collect", "--config", bench.config, "--kafka", topics.bootstrap[0])
        (cell,) = bench.load().plant.cells
        for how in (signal.SIGKILL, signal.SIGTERM):
            bench.agent = Process(*words)
            assert bench.agent.first_line().startswith(f"collecting {cell.path}; spool {bench.data / 'spool' / 'all'}")
            before_n = len(on_topic(topics))
            until(lambda n=before_n: len(on_topic(topics)) > n + 20, "samples arrive")
            ended = bench.stop(how)
        assert (ended.status, ended.err) == (0, "")
    finally:
        bench.close()
    violations: list[str] = []
    arrived = stories(topics, violations)[cell.path].arrived
    assert violations == []
    assert len({each.input.epoch for each in arrived}) <= 2
    assert {type(each.input) for each in arrived} >= {SampleBatch, Tick, Gap, LineEvent}
    assert "the collector was not running" in {each.input.reason for each in arrived if isinstance(each.input, Gap)}
    spool = Spool(bench.data / "spool" / "all", bytes_max=5_000_000, first_epoch=1)
    assert spool.empty
    spool.close()


def test_the_command_says_what_is_missing(tmp_path):
    for path in CONFIG.glob("*.toml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    said = jidoka("collect", "--config", tmp_path)
    assert (said.status, "kafka: it is missing" in said.one_line_error) == (2, True)
    said = jidoka("collect", "--config", tmp_path, "--kafka", "127.0.0.1:1", "--cell", "cell9")
    assert said.status == 2
    assert "there is no cell 'cell9'. Name one of" in said.one_line_error
