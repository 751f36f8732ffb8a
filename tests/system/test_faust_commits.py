"""Faust commits past messages that are still in work (faust-streaming issue 606): seen in the version that is pinned.

The same is asked of a plain Faust agent and of the detection worker, on a real broker: while message 5 hangs and those
behind it are done or wait, how far is the group committed? Whatever is committed is lost when the process dies. With
`concurrency` 2 the answer of plain Faust is 20; should a version ever answer 5, this test fails, and says so.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import CoordinatorNotAvailableError, NotCoordinatorError

from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from connectors.kafka.codec import Message, encode_message, tag_table_sha256
from connectors.kafka.reading import read_range
from pipelines.config import Configuration
from pipelines.stages.detect import GROUP, IN, OUT, SAVE_LOOK_S
from schemas.observations import decode_observation
from schemas.plant import Cell
from schemas.samples import Tick
from schemas.topics import partition_of
from tests.support.commits import COMMIT_EVERY_S, HANGS_AT, MESSAGES_N
from tests.support.kafka_broker import admin_of, emptied, plain, settings_of
from tests.support.kafka_faults.line import configure

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0
S = 1_000_000
T0 = 1_790_000_000 * S


class Process:
    """One of `tests.support.commits`, until it is killed."""

    def __init__(self, words: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commits", *words],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        )  # fmt: skip
        self.hangs = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if "HANGS" in line:
                self.hangs.set()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()


@contextmanager
def running(*words: str) -> Iterator[Process]:
    process = Process(words)
    try:
        yield process
    finally:
        process.kill()


def committed(cluster: Cluster, group: str, topic: str, partition: int) -> int:
    """Return how far the broker says that the group is; 0 before its first commit."""
    with admin_of(cluster) as admin:
        try:
            found = admin.list_group_offsets(group)[group].get(TopicPartition(topic, partition))
        except (
            CoordinatorNotAvailableError,
            NotCoordinatorError,
        ):  # A new broker, of which no group has asked anything.
            return 0
    return max(0, found.offset) if found is not None else 0


def wait_until(ready: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + WITHIN_S
    while not ready():
        assert time.monotonic() < until_s, f"{what} did not come within {WITHIN_S:g} s"
        time.sleep(0.1)


def produce(cluster: Cluster, topic: str, partition: int, messages: Sequence[Message]) -> None:
    producer = KafkaProducer(**plain(cluster), acks="all")
    sent = [producer.send(topic, m.value, key=m.key, headers=list(m.headers), partition=partition) for m in messages]
    for future in sent:
        future.get(timeout=30)
    producer.close()


# ---------------------------------------------------------------------- plain Faust


@pytest.mark.parametrize(("concurrency", "behind_s"), [(1, HANGS_AT), (2, MESSAGES_N)])
def test_plain_faust_commits_past_a_message_in_work_as_soon_as_concurrency_is_two(
    kafka_broker, tmp_path, concurrency, behind_s
):
    topic = f"plain-faust-{concurrency}"
    with admin_of(kafka_broker) as admin:
        admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    produce(kafka_broker, topic, 0, [Message(b"k", b"%d" % n, ()) for n in range(MESSAGES_N)])

    with running("plain", kafka_broker.bootstrap[0], topic, str(concurrency), str(tmp_path)) as process:
        assert process.hangs.wait(WITHIN_S)
        wait_until(lambda: committed(kafka_broker, f"plain-{topic}", topic, 0) >= behind_s, "a commit")
        time.sleep(10 * COMMIT_EVERY_S)

    # With 2: message 5 was never done, and nobody will ever read it again.
    assert committed(kafka_broker, f"plain-{topic}", topic, 0) == behind_s


# ---------------------------------------------------------------------- the detection worker


def two_cells(configuration: Configuration) -> tuple[Cell, Cell, int]:
    """Return a cell, the last one, which shares its partition, and the partition."""
    *others, last = configuration.plant.cells
    partitions = configuration.settings.kafka.partitions
    partition = partition_of(last.path, partitions)
    return next(c for c in others if partition_of(c.path, partitions) == partition), last, partition


def ticks(cell: Cell, numbers: range) -> list[Message]:
    tags = tag_table_sha256(cell)
    return [encode_message(cell.path, T0 + n * S, Tick("s", 1, n, T0 + n * S, True), tags) for n in numbers]


@pytest.mark.parametrize("where", ["take", "save"])
def test_worker_commits_nothing_that_is_not_saved_and_the_next_one_reads_it_again(kafka_broker, tmp_path, where):
    apply_topics(settings_of(emptied(kafka_broker)))
    configuration = configure(tmp_path / "config", kafka_broker, cells_n=4)
    text = (tmp_path / "config/jidoka.toml").read_text().replace("snapshot_s = 10.0", "snapshot_s = 0.5")
    (tmp_path / "config/jidoka.toml").write_text(text)
    usual, hanging, partition = two_cells(configuration)

    def how_far() -> int:
        return committed(kafka_broker, GROUP, IN, partition)

    produce(kafka_broker, IN, partition, ticks(usual, range(HANGS_AT)))
    with running("ours", str(tmp_path / "config"), where) as process:
        wait_until(lambda: how_far() == HANGS_AT, "the first commit")
        behind = ticks(usual, range(HANGS_AT, MESSAGES_N - 1))
        produce(kafka_broker, IN, partition, ticks(hanging, range(1)) + behind)
        assert process.hangs.wait(WITHIN_S)
        time.sleep(3 * SAVE_LOOK_S)
        assert how_far() == HANGS_AT

    with running("ours", str(tmp_path / "config"), "nowhere"):
        wait_until(lambda: how_far() == MESSAGES_N, "the commit of all")
    given = [decode_observation(each.value) for each in read_range(plain(kafka_broker), OUT, partition, 0)]
    # Of the cell without a saved state what is given again is numbered on: twice is allowed, never is not.
    expected = {(usual.path, n) for n in range(1, MESSAGES_N)} | {(hanging.path, 1)}
    assert {(each.cell, each.position) for each in given} >= expected
