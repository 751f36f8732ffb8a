"""Trials of the collector on a real broker. Each returns what went wrong; an empty list is success.

They need a cluster whose topics do not exist yet, and leave it running. `make soak` calls them with other seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from tests.support.collecting import Life, missing, prepared, stories
from tests.support.kafka_broker import settings_of

PATIENCE_S = 60.0
LOOK_S = 0.02


def until(holds: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait for something."""
    ends_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_s, f"not within {within_s:g} s: {what}"
        time.sleep(LOOK_S)


def collector_killed(folder: Path, cluster: Cluster, *, seed: int, kills_n: int = 2) -> list[str]:
    """kill -9 of the collector in mid load, again and again; the last life is ended in order."""
    rng = np.random.default_rng(seed)
    apply_topics(settings_of(cluster))
    prepared(folder)
    lives: list[Life] = []
    for number in range(kills_n):
        with Life(folder, number, cluster) as life:
            lives.append(life)
            until(lambda life=life: bool(life.last) or not life.alive, "the collector takes samples")
            time.sleep(rng.uniform(0.2, 1.5))
    return _ended(folder, cluster, lives, kills_n)


def broker_killed(folder: Path, cluster: Cluster, *, seed: int, away_s: float = 0.0, load_s: float = 1.0) -> list[str]:
    """kill -9 of the only broker under load, and a start after `away_s`; nothing is lost, and it goes on by itself."""
    rng = np.random.default_rng(seed)
    apply_topics(settings_of(cluster))
    with Life(prepared(folder), 0, cluster) as life:
        until(lambda: life.last.get("waiting", 1) == 0, "the collector sends")
        time.sleep(load_s * rng.uniform(0.5, 1.5))
        (broker,) = cluster.brokers
        broker.kill()
        time.sleep(away_s)
        broker.start()
        before = life.last["synced"]
        until(lambda: life.last["synced"] != before and life.last["waiting"] < 30, "it sends again")
        time.sleep(load_s * rng.uniform(0.2, 0.5))
        violations = [] if life.stop() == 0 else [f"the collector ended with an error: {life.stderr[-2000:]}"]
    return violations + _judged(cluster, [life])


def broker_away(folder: Path, cluster: Cluster, *, seed: int, away_s: float = 60.0) -> list[str]:
    """The broker is away for a time, under load; then everything arrives."""
    return broker_killed(folder, cluster, seed=seed, away_s=away_s)


def one_of_three_killed(folder: Path, cluster: Cluster, *, seed: int, load_s: float = 2.0) -> list[str]:
    """kill -9 of one of three brokers with three copies of everything; it comes back later."""
    rng = np.random.default_rng(seed)
    apply_topics(settings_of(cluster))
    with Life(prepared(folder), 0, cluster) as life:
        until(lambda: life.last.get("waiting", 1) == 0, "the collector sends")
        broker = cluster.brokers[int(rng.integers(3))]
        time.sleep(load_s * rng.uniform(0.2, 1.0))
        broker.kill()
        before = life.last["synced"]
        until(lambda: life.last["synced"] != before and life.last["waiting"] < 30, "it sends again")
        broker.start()
        time.sleep(load_s)
        violations = [] if life.stop() == 0 else [f"the collector ended with an error: {life.stderr[-2000:]}"]
    return violations + _judged(cluster, [life])


def _ended(folder: Path, cluster: Cluster, lives: list[Life], number: int) -> list[str]:
    """One more life that sends what is left and ends in order; then judge."""
    with Life(folder, number, cluster) as last:
        until(lambda: last.last.get("waiting", 99) < 30 or not last.alive, "all is sent")
        violations = [] if last.stop() == 0 else [f"the last life ended with an error: {last.stderr[-2000:]}"]
    return violations + _judged(cluster, [*lives, last])


def _judged(cluster: Cluster, lives: list[Life]) -> list[str]:
    violations: list[str] = []
    found = stories(cluster, violations)
    violations += missing(found, lives)
    for cell, story in found.items():
        # One for each new life, none for want of room.
        if len(story.gaps) != len(lives) - 1:
            violations.append(f"{cell}: gaps {[gap.reason for gap in story.gaps]} of {len(lives)} lives")
    return violations
