"""Trials of the collector on a plant's own topics, on a real broker, under a load that counts.

Each returns what went wrong; an empty list is success. They need a cluster whose topics do not exist yet, and leave it
running. `make soak` calls them with other seeds.
"""

from __future__ import annotations

import json
import signal as signals
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from connectors.clock import SystemClock
from connectors.kafka.broker import Cluster
from schemas.samples import Gap, Tick
from tests.support.collecting import read_topic
from tests.support.collecting_trials import until
from tests.support.plant_topics import (
    SIGNALS,
    TOPICS,
    arrived,
    collector,
    committed,
    configured,
    late,
    producing,
    samples,
    signal,
)

PART_COUNT = 20
"""Tag."""
BROKEN = b'{"broken'
BROKEN_EVERY = 500


class Load(threading.Thread):
    """A plant that counts: signal k has value k, a millisecond after the one before; each 500th message is broken."""

    def __init__(self, cluster: Cluster, *, per_s: int = 1_000) -> None:
        super().__init__()
        self._cluster, self._per_s, self._ending = cluster, per_s, threading.Event()
        self.began_us, self.n, self.broken_n = SystemClock().now_us(), 0, 0

    def run(self) -> None:
        began_s = time.monotonic()
        with producing(self._cluster) as producer:
            while not self._ending.wait(0.01):
                upto = int((time.monotonic() - began_s) * self._per_s)
                for k in range(self.n, upto):
                    topic, key, value = signal(self.began_us + k * 1_000, "part_count", k)
                    producer.send(topic, json.dumps(value).encode(), key, partition=k % TOPICS[topic])
                for _ in range(upto // BROKEN_EVERY - self.n // BROKEN_EVERY):
                    producer.send(SIGNALS, BROKEN, b"cell1", [("plant", b"x")])
                    self.broken_n += 1
                self.n = upto

    def end(self) -> None:
        self._ending.set()
        self.join()

    def missing(self) -> set[int]:
        """What has not arrived; what did was right."""
        got = samples(arrived(self._cluster), PART_COUNT)
        assert all(at == self.began_us + int(value) * 1_000 for at, value in got)
        return set(range(self.n)) - {int(value) for _, value in got}


@contextmanager
def loaded(cluster: Cluster) -> Iterator[Load]:
    """Let the plant count, until it is ended or the trial is."""
    load = Load(cluster)
    load.start()
    try:
        yield load
    finally:
        load.end()


def letters(cluster: Cluster) -> list[Any]:
    """All dead letters."""
    return [record for records in read_topic(cluster, "dead-letters.v1").values() for record in records]


def collector_killed(folder: Path, cluster: Cluster, *, seed: int) -> list[str]:
    """kill -9 of the collector in mid load: no sample is missing, and what is no JSON is put aside, each message."""
    rng = np.random.default_rng(seed)
    config = configured(folder / "config", cluster)
    with loaded(cluster) as load:
        with collector(config) as process:
            until(lambda: committed(cluster, SIGNALS) not in (None, 0), "it reads")
            time.sleep(rng.uniform(0.2, 2.0))
            process.end(signals.SIGKILL)
        with collector(config):
            time.sleep(rng.uniform(0.2, 1.5))
            load.end()
            until(lambda: not load.missing(), "all is there")
            until(lambda: len(_origins(cluster)) == load.broken_n, "letters")
    violations = [f"letter {letter!r}" for letter in letters(cluster) if not _is_broken(letter)]
    if load.broken_n < 2:
        violations.append(f"{load.broken_n} broken messages are too few to tell")
    on_topic_n = sum(map(len, read_topic(cluster, SIGNALS).values()))
    if on_topic_n != load.n + load.broken_n:
        violations.append(f"{on_topic_n} messages on the plant's topic, of which it wrote {load.n + load.broken_n}")
    return violations + _gaps(cluster)


def broker_away(folder: Path, cluster: Cluster, *, seed: int, away_s: float = 60.0) -> list[str]:
    """kill -9 of the only broker under load, and a start after `away_s`: nothing is missing, and it is told."""
    rng = np.random.default_rng(seed)
    config = configured(folder / "config", cluster)
    with loaded(cluster) as load, collector(config):
        until(lambda: committed(cluster, SIGNALS) not in (None, 0), "it reads")
        time.sleep(rng.uniform(0.0, 1.0))
        (broker,) = cluster.brokers
        broker.kill()
        time.sleep(away_s)
        broker.start()
        time.sleep(rng.uniform(0.2, 1.0))
        load.end()
        until(lambda: not load.missing(), "all is there")
        until(lambda: [e.input.alive for e in arrived(cluster) if isinstance(e.input, Tick)][-1], "alive again")
    found = arrived(cluster)
    away = [each.input for each in found if isinstance(each.input, Tick) and not each.input.alive]
    violations = _gaps(cluster)
    if len({tick.complete_until for tick in away}) != 1:
        violations.append(f"while it was away, complete was {[tick.complete_until for tick in away]}")
    if late(found):  # What the plant's producer kept meanwhile has to come in time for its rows.
        violations.append(f"{len(late(found))} samples came late")
    return violations


def _origins(cluster: Cluster) -> set[bytes]:
    return {dict(letter.headers)["dead_origin"] for letter in letters(cluster)}


def _is_broken(letter: Any) -> bool:
    said = dict(letter.headers)
    return (
        (letter.value, said["plant"]) == (BROKEN, b"x")
        and said["dead_reason"].startswith(b"not JSON (")
        and said["dead_origin"].startswith(b"collect kafka:cell1 line1.signals/")
    )


def _gaps(cluster: Cluster) -> list[str]:
    return [f"{each.input}" for each in arrived(cluster) if isinstance(each.input, Gap)]
