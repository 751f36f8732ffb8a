"""The product's detection workers as processes, `jidoka detect`, and the processor time that they use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.streaming.plant import Load, cells_of, configure
from benchmarks.streaming.topic import OUT, Ends, ends
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

ROOT = Path(__file__).parents[2]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DONE_WITHIN_S = 240.0
LOOK_S = 0.05
END_WITHIN_S = 20.0


def cpu_s(pid: int) -> float:
    """Return the processor time of a process, user and system, all threads; 10 ms steps."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_mb(pid: int) -> float:
    """Return the most memory that a process had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the workers did between the end of the warm-up and the last row."""

    samples: int
    cpu_s: float
    wall_s: float
    start_cpu_s: float
    """Before: start of the processes, warm-up, learning."""
    memory_mb: float

    @property
    def per_cpu_s(self) -> float:
        """Samples per second of one core."""
        return self.samples / self.cpu_s


@contextmanager
def workers(settings: KafkaSettings, configuration: Path, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run detection workers until the block ends."""
    command = [sys.executable, "-m", "pipelines.cli", "detect", "--config", str(configuration)]
    command += ["--kafka", settings.bootstrap[0]]
    with (configuration / "workers.log").open("ab") as log:
        running = [subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT) for _ in range(count)]
        try:
            yield running
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(END_WITHIN_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def measure(settings: KafkaSettings, load: Load, folder: Path, *, count: int = 1) -> Measured:
    """Let workers process what lies on the topic, and return what the rows behind the warm-up cost."""
    cells = cells_of(load, settings.partitions)
    configure(folder, cells)
    with_kafka(folder, settings)
    partitions = [partition_of(cell.path, settings.partitions) for cell in cells]
    with ends(settings, OUT, partitions) as out, workers(settings, folder, count) as running:
        began = _when(out, load.warm_ticks, running, folder)
        ended = _when(out, load.ticks, running, folder)
        memory_mb = max(peak_mb(process.pid) for process in running)
    per_tick = load.tags * load.rows_per_s
    samples = (sum(ended.ticks) - sum(began.ticks)) * per_tick
    return Measured(samples, ended.cpu_s - began.cpu_s, ended.at_s - began.at_s, began.cpu_s, memory_mb)


@dataclass(frozen=True, slots=True)
class Look:
    """How far the workers were at one time."""

    at_s: float
    cpu_s: float
    ticks: list[int]
    """By cell."""


def _when(out: Ends, ticks: int, running: Sequence[subprocess.Popen[bytes]], folder: Path) -> Look:
    """Return the first look at which every cell has as many observations of ticks."""
    until_s = time.monotonic() + DONE_WITHIN_S
    while True:
        look = Look(time.monotonic(), sum(cpu_s(each.pid) for each in running), out.now())
        if min(look.ticks) > ticks:
            return look
        log = folder / "workers.log"
        assert all(each.poll() is None for each in running), f"a worker ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < until_s, f"{look.ticks} of {ticks} after {DONE_WITHIN_S} s: see {log}"
        time.sleep(LOOK_S)


def with_kafka(folder: Path, settings: KafkaSettings) -> None:
    """Add the broker's settings to a configuration."""
    with (folder / "jidoka.toml").open("a", encoding="utf-8") as file:
        file.write(
            f'\n[kafka]\nbootstrap = ["{settings.bootstrap[0]}"]\npartitions = {settings.partitions}\n'
            f"session_s = {settings.session_s}\n"
        )
