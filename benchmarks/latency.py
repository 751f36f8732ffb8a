"""From a detected anomaly to its command's durable intent, and on to the register's read-back. Prints JSON.

The embedded runtime as `jidoka run` makes it: SQLite log on this disk, kept input, OPC UA over TCP with
SignAndEncrypt, the simulated cell in a process of its own at speed 1. Only the anomalies are made here: 200 facts
`anomaly.detected/1`, one after the other, put into the service as the detectors' are. Everything behind that is the
product's: playbook, guard, snapshot over OPC UA, guard again, intent, Execute, read-back.

Two things of the configuration differ, so that 200 incidents need no hours: budgets are wide, and the action has no
postcondition to prove (it would be proven after what is measured here). Set-points alternate, so each is a real change.

detected -> intent: from `service.put(fact)` to the return of the append that holds `command.intended/1`.
command -> read-back: from there to the return of the append that holds `readback.taken/1`; so one append is in it.
fdatasync: 4 KiB written and synced in the same folder, one per incident, between two of them.

Run: python -m benchmarks.latency [--incidents 200]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from connectors.clock import SystemClock
from pipelines.act import act_parts
from pipelines.config import Configuration, load
from pipelines.decide import CellService
from pipelines.demo.setting import cell_process, configure
from pipelines.runner import Runtime, running
from schemas import facts
from schemas.evidence import Evidence, TagEvidence
from schemas.facts import AnyFact

STEP_S = 20.0
"""Wall time within which each step of an incident must have come."""
UP_S = 60.0
SETTLED_S = 5.0
COLD_N = 10
"""Incidents before the counted ones: the first of a process pay for imports and caches."""
PAGE = bytes(4096)
PARTS: dict[str, type[AnyFact]] = {
    "detected_durable": facts.AnomalyDetected,
    "answered_durable": facts.ReasonerAnswered,
    "snapshot_and_intent_durable": facts.SnapshotTaken,
}
"""What the way to the intent consists of: three appends, the last one behind a read over OPC UA."""
SPEEDS_PCT = (50.0, 60.0)
PLAYBOOK = "".join(
    f"""
[[rules]]
name = "to_{speed:g}"
tier = "reflex"
asset = "gripper"
diagnosis = "benchmark"
when = [{{ tag = "lift_peak_a", buckets = ["{bucket}"] }}]
actions = [{{ name = "set_motion_speed", args = {{ motion_speed_pct = {speed:g} }} }}]
"""
    for speed, bucket in zip(SPEEDS_PCT, ("high", "low"), strict=True)
)
EDITS: tuple[tuple[str, str, str], ...] = (
    ("catalogue.toml", r"cooldown_s = \d+", "cooldown_s = 0"),
    ("catalogue.toml", r"max_per_hour = \d+", "max_per_hour = 10000"),
    ("catalogue.toml", r"postcondition = .*lift_current_a.*\n", ""),
    ("catalogue.toml", r'risk_class_away = "D"', 'risk_class_away = "B"'),
    ("policy.toml", r"commands_per_hour = \d+", "commands_per_hour = 10000"),
    ("policy.toml", r"reversals_per_hour = \d+", "reversals_per_hour = 10000"),
    ("policy.toml", r"quiet_s = \d+", "quiet_s = 0"),
)
"""File, pattern, what is put instead."""


class Noted:
    """When each kind of fact was durable, by the clock that the measurement uses."""

    def __init__(self, service: CellService) -> None:
        self._at: dict[type[AnyFact], list[float]] = {}
        service.listeners.append(self._note)

    def _note(self, appended: Sequence[AnyFact]) -> None:
        now_s = time.perf_counter()
        for fact in appended:
            self._at.setdefault(type(fact), []).append(now_s)

    def count(self, kind: type[AnyFact]) -> int:
        """Return how many of a kind there are so far."""
        return len(self._at.get(kind, ()))

    async def next(self, kind: type[AnyFact], after_n: int) -> float:
        """Wait for one more than `after_n` of a kind; returns when the first of them was durable.

        Raises:
            TimeoutError: it did not come.
        """
        await _until(lambda: self.count(kind) > after_n, STEP_S, kind.__name__)
        return self._at[kind][after_n]


async def _until(ready: Callable[[], bool], seconds: float, what: str) -> None:
    ends_s = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > ends_s:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        await asyncio.sleep(0.001)


def _benchmark_configuration(configuration: Configuration) -> Configuration:
    for name, pattern, instead in EDITS:
        path = configuration.folder / name
        text, changed_n = re.subn(pattern, instead, path.read_text(encoding="utf-8"))
        assert changed_n, f"{name} no longer has {pattern!r}"
        path.write_text(text, encoding="utf-8")
    (configuration.folder / "playbook.toml").write_text(PLAYBOOK, encoding="utf-8")
    return load(configuration.folder)


def _anomaly(number: int, at: int, present_pct: float) -> facts.AnomalyDetected:
    bucket = "high" if number % 2 == 0 else "low"
    worst = TagEvidence(tag="lift_peak_a", asset="gripper", value=9.0, baseline=5.25, z=10.0, bucket=bucket)  # type: ignore[arg-type]
    setpoints = {"grip_force_sp_n": 15.0, "motion_speed_sp_pct": present_pct, "conveyor_speed_sp_pct": 100.0}
    return facts.AnomalyDetected(
        at=at,
        episode_id=f"benchmark-{number}",
        detector="shift",
        tag="lift_peak_a",
        asset="gripper",
        direction="up",
        severity="medium",
        onset_at=at,
        detail="benchmark",
        evidence=Evidence(row_at=at, tags=(worst,), setpoints=setpoints, state="EXECUTE"),
    )


async def _measure(runtime: Runtime, incidents_n: int, folder: Path) -> dict[str, list[float]]:
    (service,) = runtime.services.values()
    noted = Noted(service)
    taken: dict[str, list[float]] = {name: [] for name in ("intent", *PARTS, "readback", "fdatasync")}
    await _until(lambda: service.state.packml_state == "EXECUTE" and service.state.source_alive, UP_S, "the source")
    await asyncio.sleep(SETTLED_S)
    present_pct, handle = 100.0, os.open(folder / "probe", os.O_WRONLY | os.O_CREAT)
    try:
        for number in range(-COLD_N, incidents_n):
            kinds = (facts.CommandIntended, facts.ReadbackTaken, facts.CommandCompleted, facts.IncidentClosed)
            before = {kind: noted.count(kind) for kind in (*kinds, *PARTS.values())}
            began_s = time.perf_counter()
            await service.put(_anomaly(number, runtime.clock.now_us(), present_pct))
            intended_s = await noted.next(facts.CommandIntended, before[facts.CommandIntended])
            readback_s = await noted.next(facts.ReadbackTaken, before[facts.ReadbackTaken])
            await noted.next(facts.CommandCompleted, before[facts.CommandCompleted])
            taken["intent"].append(intended_s - began_s)
            for part, kind in PARTS.items():
                durable_s = await noted.next(kind, before[kind])
                taken[part].append(durable_s - began_s)
                began_s = durable_s
            taken["readback"].append(readback_s - intended_s)
            present_pct = SPEEDS_PCT[number % 2]
            cleared = facts.AnomalyCleared(at=runtime.clock.now_us(), episode_id=f"benchmark-{number}", reason="normal")
            await service.put(cleared)
            await noted.next(facts.IncidentClosed, before[facts.IncidentClosed])
            taken["fdatasync"].append(_synced_s(handle, COLD_N + number))
    finally:
        os.close(handle)
    return {name: seconds[COLD_N:] for name, seconds in taken.items()}


def _synced_s(handle: int, number: int) -> float:
    os.pwrite(handle, PAGE, number * len(PAGE))
    began_s = time.perf_counter()
    os.fdatasync(handle)
    return time.perf_counter() - began_s


async def _run(incidents_n: int, folder: Path) -> dict[str, list[float]]:
    origin_us = SystemClock().now_us()
    async with cell_process(folder / "plant", speed=1.0, seed=1, origin_us=origin_us) as ready:
        configuration = _benchmark_configuration(configure(folder, ready, 1.0, origin_us))
        async with running(configuration, act_parts(configuration)) as runtime:
            return await _measure(runtime, incidents_n, folder)


def _ms(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50": round(1000 * p50, 3), "p99": round(1000 * p99, 3), "max": round(1000 * max(seconds), 3)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--incidents", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None, help="where the log lies; default: a temporary folder")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        taken = asyncio.run(_run(options.incidents, Path(name)))
    print(
        json.dumps(
            {
                "benchmark": "latency",
                "n": options.incidents,
                "detected_to_intent_durable_ms": _ms(taken["intent"]),
                "of_which_ms": {part: _ms(taken[part]) for part in PARTS},
                "command_to_readback_ms": _ms(taken["readback"]),
                "fdatasync_ms": _ms(taken["fdatasync"]),
                "goal_p99_ms": {"detected_to_intent_durable": 10.0, "command_to_readback": 50.0},
                "cores": os.cpu_count(),
                "load_1min": round(os.getloadavg()[0], 2),
                "python": platform.python_version(),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
