"""A collector process under load whose samples are numbered, and what came of them on a real broker.

    python -m tests.support.collecting FOLDER LIFE BOOTSTRAP BYTES_MAX

runs the product's own collector (spool, syncer, forwarder) over sources that count: sample k of a cell in life L has
tag L and value k. It says on stdout how far each cell is synced; whoever kills it knows what must arrive.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from connectors.clock import SystemClock
from connectors.kafka.broker import Cluster
from connectors.kafka.codec import Arrived, decode_message
from connectors.kafka.window import TOPIC
from pipelines.collect import collecting_cells
from pipelines.commands.run import until_told
from pipelines.config import load
from schemas.plant import Cell
from schemas.samples import Gap, Input, SampleBatch, Tick
from schemas.settings import KafkaSettings
from schemas.topics import partition_of
from tests.support.kafka_broker import plain
from tests.support.quick_plant import CONFIG

CELLS_N = 3
PARTITIONS_N = 3
BATCH_N = 40
BATCH_S = 0.02
TICK_EVERY = 25
SAY_S = 0.02
END_WITHIN_S = 60.0


def cells_of(cell: Cell) -> list[Cell]:
    """Cells that lie in more than one partition."""
    return [cell.model_copy(update={"id": f"c{n}", "path": f"a/b/c/d/c{n}"}) for n in range(CELLS_N)]


class Counting:
    """A source whose samples are numbered."""

    def __init__(self, cell: Cell, life: int) -> None:
        self.cell, self.life, self.count = cell, life, 0

    async def run(self, sink: Callable[[Input], Awaitable[None]]) -> None:
        name, number = f"load:{self.cell.id}", 0
        while True:
            number += 1
            values = np.arange(self.count, self.count + BATCH_N, dtype=np.float64)
            at = np.full(BATCH_N, SystemClock().now_us(), dtype=np.int64)
            tags = np.full(BATCH_N, self.life, dtype=np.uint32)
            await sink(SampleBatch(name, 0, 0, tags, at, at, values, np.zeros(BATCH_N, np.uint32)))
            self.count += BATCH_N
            if number % TICK_EVERY == 0:
                await sink(Tick(name, 0, 0, int(at[0]), alive=True))
            await asyncio.sleep(BATCH_S)


async def collect(folder: Path, life: int, bootstrap: list[str], bytes_max: int) -> None:
    """Collect until killed, and say how far the spool is synced."""
    configuration = load(folder)
    cells, kafka = cells_of(configuration.plant.cells[0]), KafkaSettings(bootstrap=tuple(bootstrap))
    sources: dict[str, Counting] = {}

    def make(cell: Cell, epoch: int) -> Counting:
        return sources.setdefault(cell.id, Counting(cell, life))

    async with collecting_cells(
        configuration, cells, kafka, partitions=PARTITIONS_N, bytes_max=bytes_max, make_source=make
    ) as collecting:
        print(json.dumps({"epoch": collecting.spool.epoch}), flush=True)
        while True:
            # Taken first, so that what it says is on the disk for sure.
            counts, position = {name: source.count for name, source in sources.items()}, collecting.spool.position
            while collecting.spool.synced < position:
                await asyncio.sleep(0.001)
            figures = collecting.figures(SystemClock().now_us())
            said = {"synced": counts, "waiting": figures.unacknowledged_n, "lost": figures.lost_samples_n}
            print(json.dumps(said), flush=True)
            await asyncio.sleep(SAY_S)


class Life:
    """One run of the collector process."""

    def __init__(self, folder: Path, number: int, cluster: Cluster, bytes_max: int = 500_000_000) -> None:
        words = [str(folder), str(number), ",".join(cluster.bootstrap), str(bytes_max)]
        self.number = number
        self.said: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.collecting", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._errors: list[bytes] = []
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._hear_errors)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                self.said.append(json.loads(line))

    def _hear_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors += self._process.stderr

    @property
    def stderr(self) -> str:
        return b"".join(self._errors).decode(errors="replace")

    @property
    def last(self) -> dict[str, Any]:
        """What it said last; empty before it took anything."""
        return next((each for each in reversed(self.said) if "synced" in each), {})

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> Life:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.kill()

    def kill(self) -> None:
        """kill -9, and take what it had said."""
        self._process.kill()
        self._end()

    def stop(self) -> int:
        """SIGTERM, and wait for its end."""
        self._process.terminate()
        return self._end()

    def _end(self) -> int:
        status = self._process.wait(END_WITHIN_S)
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        return status


def prepared(folder: Path) -> Path:
    """Make the configuration folder of a trial."""
    folder.mkdir(parents=True)
    for path in CONFIG.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def read_topic(cluster: Cluster, name: str = TOPIC) -> dict[int, list[Any]]:
    """Everything on a topic, by partition in order."""
    consumer = KafkaConsumer(**plain(cluster), auto_offset_reset="earliest", check_crcs=False, enable_auto_commit=False)
    try:
        places = [TopicPartition(name, n) for n in sorted(consumer.partitions_for_topic(name))]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        found: dict[int, list[Any]] = {place.partition: [] for place in places}
        while any(consumer.position(place) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=500).items():
                found[place.partition] += records
        return found
    finally:
        consumer.close()


@dataclass
class Story:
    """What arrived of one cell, doubles dropped."""

    arrived: list[Arrived] = field(default_factory=list)
    doubles_n: int = 0

    @property
    def samples(self) -> dict[int, list[float]]:
        """Values by tag, in order of arrival."""
        found: dict[int, list[float]] = {}
        for each in self.arrived:
            if isinstance(each.input, SampleBatch):
                for tag, value in zip(each.input.tag.tolist(), each.input.value.tolist(), strict=True):
                    found.setdefault(tag, []).append(value)
        return found

    @property
    def gaps(self) -> list[Gap]:
        return [each.input for each in self.arrived if isinstance(each.input, Gap)]


def stories(cluster: Cluster, violations: list[str]) -> dict[str, Story]:
    """Read the topic as a receiver does, and note whatever is not in order once doubles are dropped."""
    found: dict[str, Story] = {}
    for partition, records in read_topic(cluster).items():
        last: dict[str, tuple[int, int]] = {}
        last_at: Counter[str] = Counter()
        for record in records:
            each = decode_message(record.key, record.value, record.headers)
            if partition_of(each.cell, PARTITIONS_N) != partition:
                violations.append(f"{each.cell} in partition {partition}")
            story, place = found.setdefault(each.cell, Story()), (each.input.epoch, each.input.seq)
            before = last.get(each.input.source)
            if before is not None and place <= before:
                story.doubles_n += 1
                continue
            epoch, seq = before or (0, -1)
            if place != (epoch, seq + 1) and not (place[0] > epoch and place[1] == 0):
                violations.append(f"{each.cell}: {place} follows {before}")
            if each.at < last_at[each.cell]:
                violations.append(f"{each.cell}: time goes back to {each.at}")
            last[each.input.source], last_at[each.cell] = place, each.at
            story.arrived.append(each)
    return found


def missing(found: dict[str, Story], lives: list[Life]) -> list[str]:
    """What was synced and did not arrive, or not in the order in which it was made."""
    violations = []
    for cell, story in found.items():
        for life in lives:
            got = story.samples.get(life.number, [])
            synced_n = life.last.get("synced", {}).get(cell.rpartition("/")[2], 0)
            if got != [float(n) for n in range(len(got))]:
                violations.append(f"{cell} life {life.number}: not every sample in order: {len(got)} arrived")
            if len(got) < synced_n:
                violations.append(f"{cell} life {life.number}: {synced_n} synced, {len(got)} arrived")
    if len(found) != CELLS_N:
        violations.append(f"messages of {len(found)} cells")
    return violations


if __name__ == "__main__":
    until_told(collect(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(","), int(sys.argv[4])))
