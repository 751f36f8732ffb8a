"""Trials as `make soak` and `make test` run them: a line or a story, one fault, and what was wrong.

Nothing here needs more than a folder and a seed: brokers and database are started for a trial, or handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from connectors.kafka.broker import Cluster, cluster
from tests.support.kafka_faults import decisions, faults, line
from tests.support.kafka_faults.judging import judged
from tests.support.postgres import PostgresServer, make_server

RECOVERED_GOAL_S = 60.0


@dataclass(frozen=True)
class Trial:
    """What came of one."""

    wrong: list[str]
    figures: Mapping[str, float] = field(default_factory=dict)


def on_a_line(folder: Path, name: str, *, seed: int, pause_s: float, times_n: int = 1) -> Trial:
    """One fault, or the same one again and again, on a line of its own with one broker, or three if one is killed."""
    brokers_n = 3 if name in faults.ON_THREE else 1
    with cluster(folder / "kafka", brokers_n=brokers_n) as brokers:
        return one_after_the_other(folder, brokers, (name,) * times_n, seed=seed, pause_s=pause_s)


def one_after_the_other(folder: Path, brokers: Cluster, names: tuple[str, ...], *, seed: int, pause_s: float) -> Trial:
    """Several faults on one line, judged once in the end."""
    return asyncio.run(_on_a_line(folder / "line", brokers, names, seed=seed, pause_s=pause_s))


async def _on_a_line(folder: Path, brokers: Cluster, names: tuple[str, ...], *, seed: int, pause_s: float) -> Trial:
    rng = np.random.default_rng(seed)
    wrong: list[str] = []
    worst_s: dict[str, float] = {}
    async with line.running(folder, brokers, seed=seed) as running:
        for name in names:
            try:
                await faults.ALL[name](running, rng, pause_s)
            except AssertionError as error:
                wrong.append(f"{name}: {error}")
            for what, took_s in running.recovered_s.items():
                worst_s[what] = max(took_s, worst_s.get(what, 0.0))
        wrong += await judged(running)
        samples_n = sum(running.synced.values())
    wrong += [f"{what} took {took_s:.0f} s" for what, took_s in worst_s.items() if took_s > RECOVERED_GOAL_S]
    figures = {f"{what.replace(':', '').replace(' ', '_')}_s": took_s for what, took_s in worst_s.items()}
    return Trial(wrong, {**figures, "samples": float(samples_n)})


def decide_killed(folder: Path, brokers: Cluster, number: int, *, seed: int, keys: Path | None = None) -> Trial:
    """kill -9 of an acting decision service at one of `decisions.POINTS`."""
    at, count = decisions.POINTS[number]
    wrong, recovered_s = asyncio.run(decisions.decide_killed(folder, brokers, seed=seed, at=at, count=count, keys=keys))
    return Trial([*wrong, *_late(recovered_s)], {"recovered_s": recovered_s})


def zombie(folder: Path, brokers: Cluster, server: PostgresServer, *, seed: int, pause_s: float) -> Trial:
    """A decision service stopped with an intent in hand, replaced, and resumed."""
    with server.database() as postgres:
        wrong, recovered_s, outcome = asyncio.run(
            decisions.zombie(folder, brokers, postgres, seed=seed, pause_s=pause_s)
        )
    # By the epoch, or before that because the zombie's heartbeat has been silent.
    figures = {
        "recovered_s": recovered_s,
        "refused_by_the_plc": float("rejected" in outcome),
        # The other one had it done before the zombie went on: told by the ledger, and not done again.
        "told_by_the_plc": float("state='done'" in outcome),
        "refused_by_epoch": float("epoch" in outcome),
    }
    return Trial([*wrong, *_late(recovered_s)], figures)


def zombie_alone(folder: Path, *, seed: int, pause_s: float) -> Trial:
    """The same with broker and database of its own."""
    with ExitStack() as stack:
        server = make_server()
        stack.callback(server.remove)
        brokers = stack.enter_context(cluster(folder / "kafka"))
        return zombie(folder / "story", brokers, server, seed=seed, pause_s=pause_s)


def decide_killed_alone(folder: Path, number: int, *, seed: int) -> Trial:
    """The same with a broker of its own."""
    with cluster(folder / "kafka") as brokers:
        return decide_killed(folder / "story", brokers, number, seed=seed)


def _late(recovered_s: float) -> list[str]:
    return [f"recovery took {recovered_s:.0f} s"] if not 0.0 <= recovered_s <= RECOVERED_GOAL_S else []
