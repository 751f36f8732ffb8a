"""Workers as processes on numbered ticks of one cell, and how far the broker says that they are."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaProducer, TopicPartition
from kafka.errors import CoordinatorNotAvailableError, NotCoordinatorError

from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from connectors.kafka.codec import Message, encode_message, tag_table_sha256
from pipelines.config import Configuration
from schemas.plant import Cell
from schemas.samples import Tick
from schemas.topics import partition_of
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


def configured(cluster: Cluster, folder: Path) -> Configuration:
    """Return a configuration of four cells whose workers save at once, on topics that have nothing."""
    apply_topics(settings_of(emptied(cluster)))
    configuration = configure(folder, cluster, cells_n=4)
    text = (folder / "jidoka.toml").read_text().replace("snapshot_s = 10.0", "snapshot_s = 0.5")
    (folder / "jidoka.toml").write_text(text)
    return configuration


def two_cells(configuration: Configuration) -> tuple[Cell, Cell, int]:
    """Return a cell, the last one, which shares its partition, and the partition."""
    *others, last = configuration.plant.cells
    partitions = configuration.settings.kafka.partitions
    partition = partition_of(last.path, partitions)
    return next(c for c in others if partition_of(c.path, partitions) == partition), last, partition


def ticks(cell: Cell, numbers: range) -> list[Message]:
    tags = tag_table_sha256(cell)
    return [encode_message(cell.path, T0 + n * S, Tick("s", 1, n, T0 + n * S, True), tags) for n in numbers]
