"""The product's detection workers as processes, `jidoka detect`, and the processor time that they use.

They are started first and join their group; then their time is stopped, the topic is filled, and their time goes on: so
they have all messages before them, and neither their start nor the filling is in what is measured. What counts begins
when every cell has learnt its normal and had its first fault, and ends with the last row.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from benchmarks.streaming.plant import Load, cells_of, configure, messages
from benchmarks.streaming.topic import OUT, Ends, begin_anew, ends, preload
from connectors.kafka.connection import client_arguments
from pipelines.stages.detect import GROUP
from schemas.plant import Cell
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

ROOT = Path(__file__).parents[2]
CLOCK_HZ = os.sysconf("SC_CLK_TCK")
JOINED_WITHIN_S, SETTLED_S = 120.0, 3.0
DONE_WITHIN_S = 240.0
LOOK_S = 0.05
END_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What the workers did between the end of the warm-up and the last row."""

    samples: int
    cpu_s: float
    wall_s: float
    start_cpu_s: float
    """Until they had joined: imports, configuration, connections."""
    memory_mb: float
    """Of the largest worker at its peak."""

    @property
    def per_cpu_s(self) -> float:
        """Samples per second of one core."""
        return self.samples / self.cpu_s


@dataclass(frozen=True, slots=True)
class Look:
    """How far the workers were at one time."""

    at_s: float
    cpu_s: float
    ticks: list[int]
    """By cell."""


class Workers:
    """Processes of one group."""

    def __init__(self, running: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
        self._running, self._log = running, log

    def signal(self, number: int) -> None:
        """Send a signal to all."""
        for each in self._running:
            each.send_signal(number)

    def cpu_s(self) -> float:
        """Return their processor time so far, user and system, all threads."""
        return sum(_cpu_s(each.pid) for each in self._running)

    def memory_mb(self) -> float:
        """Return the most memory that one of them had."""
        return max(_peak_mb(each.pid) for each in self._running)

    def check(self) -> None:
        """Raise if one has ended."""
        assert all(each.poll() is None for each in self._running), f"a worker ended: {self._log.read_text()[-2000:]}"


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_HZ


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def started(settings: KafkaSettings, cells: Sequence[Cell], folder: Path, count: int) -> Iterator[Workers]:
    """Run detection workers that have joined, on empty topics, until the block ends."""
    begin_anew(settings)
    configure(folder, cells, settings)
    command = [sys.executable, "-m", "pipelines.cli", "detect", "--config", str(folder)]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "workers.log").open("ab"))
        running = []
        for _ in range(count):
            running.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT))
            stack.callback(_end, running[-1])
        workers = Workers(running, folder / "workers.log")
        _joined(settings, workers, count)
        yield workers


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _joined(settings: KafkaSettings, workers: Workers, count: int) -> None:
    admin = KafkaAdminClient(**client_arguments(settings))
    until_s = time.monotonic() + JOINED_WITHIN_S
    try:
        while not _whole(admin, count):
            workers.check()
            assert time.monotonic() < until_s, f"no group of {count} workers after {JOINED_WITHIN_S:g} s"
            time.sleep(0.2)
    finally:
        admin.close()
    time.sleep(SETTLED_S)


def _whole(admin: KafkaAdminClient, count: int) -> bool:
    try:
        group = admin.describe_groups([GROUP])[GROUP]
    except KafkaError:  # a broker that is new has no coordinator yet, and no group
        return False
    return group["group_state"] == "Stable" and len(group["members"]) == count


def measure(settings: KafkaSettings, load: Load, folder: Path, *, count: int = 1) -> Measured:
    """Let workers process a load, and return what the rows behind the warm-up cost."""
    cells = cells_of(load, settings.partitions)
    with started(settings, cells, folder, count) as workers:
        start_cpu_s = workers.cpu_s()
        workers.signal(signal.SIGSTOP)
        for seed, cell in enumerate(cells):
            preload(settings, messages(cell, load, seed=seed))
        workers.signal(signal.SIGCONT)
        partitions = [partition_of(cell.path, settings.partitions) for cell in cells]
        with ends(settings, OUT, partitions) as out:
            began = _when(out, load.warm_ticks, workers)
            ended = _when(out, load.ticks, workers)
        samples = (sum(ended.ticks) - sum(began.ticks)) * load.tags * load.rows_per_s
        cpu_s, wall_s = ended.cpu_s - began.cpu_s, ended.at_s - began.at_s
        return Measured(samples, cpu_s, wall_s, start_cpu_s, workers.memory_mb())


def _when(out: Ends, ticks: int, workers: Workers) -> Look:
    """Return the first look at which every cell has as many observations: one a tick, two before the first row."""
    until_s = time.monotonic() + DONE_WITHIN_S
    while True:
        look = Look(time.monotonic(), workers.cpu_s(), out.now())
        if min(look.ticks) >= ticks + 2:
            return look
        workers.check()
        assert time.monotonic() < until_s, f"{look.ticks} of {ticks} after {DONE_WITHIN_S} s"
        time.sleep(LOOK_S)
