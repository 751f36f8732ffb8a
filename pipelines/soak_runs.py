"""What a soak runs: name -> units from a seed. A unit is a few seconds to a few minutes of work, done or not done."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from connectors.clock import SystemClock
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.verify import verify
from pipelines.config import load
from pipelines.simulation import Simulation
from pipelines.soak_kafka import KAFKA_RUNS
from pipelines.soak_reasoning import REASONING_RUNS
from pipelines.soak_units import Outcome, Unit, support
from schemas.facts import AnomalyDetected, CommandIntended, IncidentOpened, OperatorRequested

HEALTHY_SEEDS_N, HEALTHY_S = 30, 3600.0
HEALTHY_DAYS_N, DAY_S = 35, 86_400.0
OUTAGES_N, OUTAGES_UNIT_N = 20, 5
EDITS_N, EDITS_UNIT_N = 10_000, 200
TAMPERED_RECORDS_N = 60
INCIDENTS_N = 200
BACK_GOAL_S = 10.0


def crash_pairs(seed: int) -> Iterator[Unit]:
    """Yield one unit a crash point: crash there, and there and at every point of the recovery. The seed is not used."""
    story = support("corrective_story")
    for kind in story.KINDS:
        for at, label in enumerate(story.points_of(kind)[0]):
            yield Unit(f"{kind} {at} {label}", lambda kind=kind, at=at: _pairs(story, kind, at))  # type: ignore[misc]


def _pairs(story: Any, kind: str, at: int) -> Outcome:
    bad, recovered_n = story.crash_once(kind, at)
    failures = [f"once: {text}" for text in bad]
    for again in range(recovered_n):
        failures += [f"again at {again}: {text}" for text in story.crash_twice(kind, at, again)]
    return Outcome(1 + recovered_n, tuple(failures), {"pairs": recovered_n})


def crash_kill9(seed: int) -> Iterator[Unit]:
    """Yield one unit a named point, killed once, and killed again while it starts."""
    killing = support("killing")
    for way in ("once", "twice"):
        for at, count in killing.POINTS + killing.MORE:
            yield Unit(f"{way} {at} {count}", lambda w=way, a=at, c=count: _kill(killing, w, a, c))  # type: ignore[misc]


def _kill(killing: Any, way: str, at: str, count: int) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        kill = killing.killed_once if way == "once" else killing.killed_twice
        return Outcome(1, tuple(kill(Path(name) / "run", at, count)))


def server_restarts(seed: int) -> Iterator[Unit]:
    """Yield units of a few outages under one agent."""
    restarts = support("restarts")
    for number in range(OUTAGES_N // OUTAGES_UNIT_N):
        yield Unit(f"{number}", lambda: asyncio.run(_outages(restarts)))


async def _outages(restarts: Any) -> Outcome:
    failures, back_s = [], []
    with tempfile.TemporaryDirectory() as name:
        async for outage in restarts.outages(Path(name), OUTAGES_UNIT_N):
            back_s.append(BACK_GOAL_S * 10 if outage.back_s is None else outage.back_s)
            if back_s[-1] > BACK_GOAL_S or outage.gaps_n != 1 or outage.commands_n:
                failures.append(str(outage))
    return Outcome(OUTAGES_UNIT_N, tuple(failures), {"back_s": max(back_s)})


def healthy_hours(seed: int) -> Iterator[Unit]:
    """Yield one unit an hour of plant time without a fault: any command or incident is a failure."""
    for number in range(seed, seed + HEALTHY_SEEDS_N):
        yield Unit(f"seed {number}", lambda number=number: asyncio.run(_healthy(number, HEALTHY_S)))  # type: ignore[misc]


def healthy_days(seed: int) -> Iterator[Unit]:
    """Yield one unit a day of plant time without a stop or a fault, five weeks in all; counted as the hours are."""
    for number in range(seed, seed + HEALTHY_DAYS_N):
        yield Unit(f"seed {number}", lambda number=number: asyncio.run(_healthy(number, DAY_S)))  # type: ignore[misc]


async def _healthy(seed: int, seconds: float) -> Outcome:
    simulation = Simulation(load(Path(str(resources.files("connectors.plant").joinpath("config")))), seed=seed)
    async with simulation.running():
        await simulation.run_for(seconds)
    wrong = [f for f in simulation.facts if isinstance(f, CommandIntended | IncidentOpened)]
    episodes_n = sum(isinstance(f, AnomalyDetected) for f in simulation.facts)
    figures = {"cycles": float(simulation.plant.station.plc.cycle_count), "episodes": float(episodes_n)}
    return Outcome(1, tuple(str(f) for f in wrong), figures)


def tamper(seed: int) -> Iterator[Unit]:
    """Yield units of random edits of a log, each of which must be named."""
    for number in range(EDITS_N // EDITS_UNIT_N):
        yield Unit(f"{number}", lambda number=number: _tampered(np.random.default_rng([seed, number])))  # type: ignore[misc]


@cache
def _log() -> Path:
    """Write a log that copies are edited of; it goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="jidoka-soak-")) / "log"
    asyncio.run(_fill(folder))
    return folder


async def _fill(folder: Path) -> None:
    async with SqliteStore.open(folder, clock=SystemClock()) as store:
        cells = ("site/a/b/c/one", "site/a/b/c/two")
        epochs = {cell: (await store.take(cell)).epoch for cell in cells}
        for number in range(TAMPERED_RECORDS_N):
            cell = cells[number % 2]
            note = OperatorRequested(
                at=number, request_id=f"note-{number}", who="soak", kind="note", reason="as it was"
            )
            await store.append(cell, [note], expected=number // 2, advance={}, epoch=epochs[cell])


EDITS: Mapping[str, tuple[str, ...]] = {
    "data": ("UPDATE events SET data = CAST(replace(CAST(data AS TEXT), 'was', 'is ') AS BLOB) WHERE position = :a",),
    "type": ("UPDATE events SET type = type || 'x' WHERE position = :a",),
    "recorded_at": ("UPDATE events SET recorded_at = recorded_at + 1 WHERE position = :a",),
    "cell": ("UPDATE events SET cell = cell || 'x' WHERE position = :a",),
    "version": ("UPDATE events SET version = version + 1000 WHERE position = :a",),
    "inputs": ("UPDATE events SET inputs = '{\"input\":9}' WHERE position = :a",),
    "chain": ("UPDATE events SET chain = zeroblob(32) WHERE position = :a",),
    "deleted": ("DELETE FROM events WHERE position = :a",),
    "cut": ("DELETE FROM events WHERE position >= :a",),
    "swapped": (
        "UPDATE events SET position = -1 WHERE position = :a",
        "UPDATE events SET position = :a WHERE position = :b",
        "UPDATE events SET position = :b WHERE position = -1",
    ),
    "copied": (
        "INSERT INTO events SELECT (SELECT max(position) + 1 FROM events), cell, version + 5000, type, recorded_at, "
        "inputs, data, chain FROM events WHERE position = :a",
    ),
}
"""Kind of edit -> SQL on a copy of the log."""


def _tampered(rng: np.random.Generator) -> Outcome:
    failures, original = [], _log()
    with tempfile.TemporaryDirectory() as name:
        for number in range(EDITS_UNIT_N):
            kind = list(EDITS)[int(rng.integers(len(EDITS)))]
            a, b = (int(x) for x in rng.choice(TAMPERED_RECORDS_N, 2, replace=False) + 1)
            folder = Path(name) / str(number)
            shutil.copytree(original, folder)
            db = sqlite3.connect(folder / "log.sqlite")
            with db:
                for trigger in ("events_are_not_edited", "events_are_not_deleted"):
                    db.execute(f"DROP TRIGGER {trigger}")  # a forger is not stopped by them
                for statement in EDITS[kind]:
                    db.execute(statement, {"a": a, "b": b})
            db.close()
            if verify(folder).ok:
                failures.append(f"{kind} at {a}, {b} was not found")
            shutil.rmtree(folder)
    return Outcome(EDITS_UNIT_N, tuple(failures))


def latency(seed: int) -> Iterator[Unit]:
    """Yield one unit: the benchmark of 200 incidents. It fails only if it does not run; its figures are the result."""
    yield Unit(f"{INCIDENTS_N} incidents", _latency)


def _latency() -> Outcome:
    words = [sys.executable, "-m", "benchmarks.latency", "--incidents", str(INCIDENTS_N)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Outcome(INCIDENTS_N, (done.stderr[-500:],))
    said = json.loads(done.stdout)
    figures = {f"{key}_{p}": float(said[key][p]) for key in said if key.endswith("_ms") and "p50" in said[key]
               for p in ("p50", "p99")}  # fmt: skip
    return Outcome(INCIDENTS_N, (), figures)


RUNS: Mapping[str, Callable[[int], Iterator[Unit]]] = {
    "crash-pairs": crash_pairs,
    "crash-kill9": crash_kill9,
    "server-restarts": server_restarts,
    "healthy-hours": healthy_hours,
    "healthy-days": healthy_days,
    "tamper": tamper,
    "latency": latency,
    **REASONING_RUNS,
    **KAFKA_RUNS,
}
