"""Detection over a real broker: from the topic to episodes, all detectors, per second of processor time. Prints JSON.

An Apache Kafka broker on the loopback, `telemetry.v1` filled with messages of the product's codec (1,000 samples a
batch, every tag in every row, a tick a second of plant time, faults one after the other), and the product's own
worker, `jidoka detect`, as a process: consumer, Faust, hash and header checks, order, rows, detectors, evidence,
observations acknowledged by the broker, states saved, offsets committed. Counted is the processor time of the worker's
process, all threads, from the end of the warm-up to the last row. The broker's is not in it, nor in anybody's.

quixstreams and bytewax read the same topic in the same run and do less: the mean per tag of ten seconds, event by
event, and beside it one numpy call per batch (what their clients fetch before the first sample is not counted, which
flatters that form). Rounds are repeated and the best counts, since other processes on the same cores only take away;
`load_average` says how busy they were.

Run: `python -m benchmarks.stream [--rounds N] [--only PART ...]`; all parts take six to seven minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.streaming.latency import measure_latency
from benchmarks.streaming.plant import Load, cells_of, messages
from benchmarks.streaming.rivals import run_peers
from benchmarks.streaming.topic import IN, begin_anew, preload
from benchmarks.streaming.workers import Measured, measure
from connectors.kafka.broker import Cluster, cluster
from schemas.settings import KafkaSettings

ROUNDS = 2
MAIN = {"1000 tags": Load(1000, 1, 3000), "10000 tags": Load(10_000, 1, 400)}
OTHERS = {
    "10 tags": Load(10, 1, 20_000, rows_per_s=100),
    "100 tags": Load(100, 1, 8000, rows_per_s=10),
    "100000 tags": Load(100_000, 1, 100),
}
TWO = Load(1000, 2, 6000)
"""Longer than the others: what either worker has in hand when the count begins and ends counts for less."""
PEERS = Load(1000, 1, 1600)
LATENCY_SAMPLES_PER_S, LATENCY_PARTITIONS = 100_000, 12
SESSION_S = 60.0
"""Workers stand still while the topic is filled."""
WORK_FOLDER = Path(__file__).parents[1] / "var"

Said = dict[str, object]
Part = Callable[["Bench"], dict[str, object]]


class Bench:
    """One broker, and a folder for what runs on it."""

    def __init__(self, broker: Cluster, folder: Path, rounds: int) -> None:
        self.rounds = rounds
        self._broker, self._folder, self._runs = broker, folder, 0

    def settings(self, partitions: int) -> KafkaSettings:
        """Return settings of this broker."""
        return KafkaSettings(bootstrap=self._broker.bootstrap, partitions=partitions, session_s=SESSION_S)

    def folder(self) -> Path:
        """Return a folder that does not exist yet."""
        self._runs += 1
        return self._folder / f"run{self._runs}"

    def best(self, loads: dict[str, Load], rounds: int, workers: dict[str, int] | None = None) -> dict[str, Said]:
        """Measure some rounds of all, in turn, so that a busy moment meets all; returns the best of each."""
        runs: dict[str, list[Measured]] = {name: [] for name in loads}
        for _ in range(rounds):
            for name, load in loads.items():
                count = (workers or {}).get(name, 1)
                runs[name].append(measure(self.settings(load.cells), load, self.folder(), count=count))
        return {name: _said(measured) for name, measured in runs.items()}


def _said(runs: list[Measured]) -> Said:
    best = max(runs, key=lambda run: run.per_cpu_s)
    return {
        "samples_per_cpu_s": round(best.per_cpu_s),
        "rounds": [round(run.per_cpu_s) for run in runs],
        "samples": best.samples,
        "cpu_s": round(best.cpu_s, 2),
        "wall_s": round(best.wall_s, 2),
        "start_cpu_s": round(best.start_cpu_s, 2),
        "memory_mb": round(best.memory_mb),
    }


def detection(bench: Bench) -> dict[str, object]:
    """The two sizes that there is a goal for."""
    return {**bench.best(MAIN, bench.rounds)}


def sizes(bench: Bench) -> dict[str, object]:
    """Fewer and more tags, once each."""
    return {**bench.best(OTHERS, 1)}


def two_workers(bench: Bench) -> dict[str, object]:
    """The same two cells with one worker and with two. The ratio is of medians: two bests are two strokes of luck."""
    found = bench.best({"one": TWO, "two": TWO}, bench.rounds, {"two": 2})
    return {**found, "cpu_per_sample_two_to_one": round(_median(found["one"]) / _median(found["two"]), 2)}


def _median(said: Said) -> float:
    rounds = said["rounds"]
    assert isinstance(rounds, list)
    return statistics.median(rounds)


def peers(bench: Bench) -> dict[str, object]:
    """What others need for less, on one partition, and how many times as many samples detection does."""
    settings = bench.settings(1)
    begin_anew(settings)
    (cell,) = cells_of(PEERS, settings.partitions)
    preload(settings, messages(cell, PEERS))
    return run_peers(settings.bootstrap[0], IN)


def latency(bench: Bench) -> dict[str, object]:
    """From sample to episode at a fixed rate."""
    return measure_latency(bench.settings(LATENCY_PARTITIONS), LATENCY_SAMPLES_PER_S, bench.folder())


PARTS: dict[str, Part] = {
    "detection": detection, "peers": peers, "two_workers": two_workers, "sizes": sizes, "latency": latency,
}  # fmt: skip


def _times_peers(results: dict[str, object]) -> dict[str, float]:
    """Return by how much detection of 1,000 tags is faster than each form of a peer."""
    ours, theirs = results.get("detection"), results.get("peers")
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return {}
    rate = ours["1000 tags"]["samples_per_cpu_s"]
    return {name: round(rate / each["per_cpu_s"], 2) for name, each in theirs.items() if isinstance(each, dict)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    told = parser.parse_args()
    WORK_FOLDER.mkdir(exist_ok=True)
    results: dict[str, object] = {"cores": os.cpu_count(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory(dir=WORK_FOLDER) as folder, cluster(Path(folder) / "kafka") as broker:
        bench = Bench(broker, Path(folder), told.rounds)
        for name in told.only:
            before = os.getloadavg()[0]
            results[name] = {**PARTS[name](bench), "load_average": [round(x, 1) for x in (before, os.getloadavg()[0])]}
    results["times_the_peers"] = _times_peers(results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
