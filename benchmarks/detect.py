"""What detection costs: the demo cell per second of plant time, and a wide group per row. Prints JSON.

The demo cell's input is made up here (one tick and one batch a second, a cycle every 2.7 s, noise on every process
tag), so that no physics is measured. Times are CPU time of one core, the best of `ROUNDS`.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.detectors.suite import Suite
from schemas.facts import AnomalyDetected, CalibrationAdopted
from schemas.plant import Asset, Cell, Group, Plant, Range, Tag
from schemas.samples import Input, Kept, LineEvent, SampleBatch, Tick

PLANT = Path(__file__).parents[1] / "connectors/plant/config/plant.toml"
T0, S = 1_790_000_000_000_000, 1_000_000
CYCLE_US = 2_700_000
ROUNDS = 3
NORMAL = {
    "grip_force_n": (15.0, 0.05), "grip_current_a": (0.62, 0.01), "finger_position_mm": (22.0, 0.02),
    "lift_current_a": (3.0, 0.01), "lift_peak_a": (5.2, 0.02), "part_slip_mm": (0.5, 0.05),
    "drive_current_a": (3.0, 0.03),
    "drive_temperature_degc": (60.0, 0.1), "cycle_time_s": (2.7, 0.004),
}  # fmt: skip
CONSTANT = {"grip_force_sp_n": 15.0, "motion_speed_sp_pct": 100.0, "conveyor_speed_sp_pct": 100.0,
            "grip_force_latched_sp_n": 15.0, "packml_state": 6.0, "remote_enable": 1.0, "estop_ok": 1.0,
            "automatic_mode": 1.0, "agent_enable": 1.0, "scrap_count": 0.0}  # fmt: skip


def demo_input(cell: Cell, plant_s: int) -> list[Kept]:
    """Return the kept input of a healthy demo cell."""
    random, ids = np.random.default_rng(0), {tag.name: tag.id for tag in cell.tags}
    messages: list[tuple[int, Input]] = [(T0, LineEvent("s", 1, 0, "packml.state", T0 - 1, 6))]
    count, next_cycle_at = 0, T0 + CYCLE_US
    for now in range(T0, T0 + plant_s * S, S):
        samples = [(ids["plc_heartbeat"], now - 1000, float(now // S))]
        samples += [(ids[name], now - 1000, value) for name, value in CONSTANT.items()]
        if next_cycle_at <= now:
            count += 1
            latched = {name: float(c + s * random.standard_normal()) for name, (c, s) in NORMAL.items()}
            latched |= {"cycle_count": count, "part_count": count}
            samples += [(ids[name], next_cycle_at, value) for name, value in latched.items()]
            next_cycle_at += CYCLE_US
        messages += [(now, batch(samples)), (now, Tick("s", 1, 0, now, True))]
    return [Kept(k, at, message) for k, (at, message) in enumerate(messages, 1)]


def batch(samples: Sequence[tuple[int, int, float]]) -> SampleBatch:
    """Return good samples (tag, source_at, value) as a batch."""
    at = np.array([s[1] for s in samples], dtype=np.int64)
    tag = np.array([s[0] for s in samples], dtype=np.uint32)
    value = np.array([s[2] for s in samples], dtype=np.float64)
    return SampleBatch("s", 1, 0, tag, at, at, value, np.zeros(len(samples), dtype=np.uint32))


def wide_cell(tags: int) -> Cell:
    """Return a cell with one group of so many process tags, a row a second."""
    return Cell(
        id="wide", path="a/b/c/d/wide", namespace="urn:bench", lateness_s=0.0,
        assets=(Asset(id="a", title="A"),), groups=(Group(id="g", period_s=1.0),),
        tags=tuple(
            Tag(id=k, name=f"t{k}_n", asset="a", node=f"/t{k}", unit="N", range=Range(low=-100, high=100), group="g")
            for k in range(tags)
        ),
    )  # fmt: skip


def wide_input(tags: int, rows: int) -> list[Kept]:
    """Return rows with a sample of every tag, one batch and one tick each."""
    random, ids = np.random.default_rng(0), np.arange(tags, dtype=np.uint32)
    status, kept = np.zeros(tags, dtype=np.uint32), [Kept(1, T0, Tick("s", 1, 0, T0, True))]
    for row in range(1, rows + 1):
        at = np.full(tags, T0 + row * S, dtype=np.int64)
        kept.append(Kept(0, T0, SampleBatch("s", 1, 0, ids, at, at, random.standard_normal(tags), status)))
        kept.append(Kept(0, T0, Tick("s", 1, 0, T0 + row * S, True)))
    return kept


def measure(cell: Cell, kept: Sequence[Kept]) -> tuple[float, int, int]:
    """Return CPU seconds (best of `ROUNDS`), rows and episodes."""
    best_s, rows, episodes = float("inf"), 0, 0
    for _ in range(ROUNDS):
        suite, rows, episodes, learnt = Suite(cell), 0, 0, 0
        began_s = time.process_time()
        for one in kept:
            fed = suite.feed(one)
            rows += len(fed.rows)
            for fact in fed.facts:
                episodes += isinstance(fact, AnomalyDetected)
                learnt += isinstance(fact, CalibrationAdopted)
        best_s = min(best_s, time.process_time() - began_s)
        assert learnt, "nothing was learnt: this would measure a suite that does not judge"
    return best_s, rows, episodes


def main() -> None:
    """Measure and print."""
    cell = Plant.model_validate(tomllib.loads(PLANT.read_text())).cells[0]
    plant_s = 1800
    cpu_s, rows, episodes = measure(cell, demo_input(cell, plant_s))
    wide_tags, wide_rows = 1000, 600
    wide_s, _, wide_episodes = measure(wide_cell(wide_tags), wide_input(wide_tags, wide_rows))
    suite = Suite(cell)
    for one in demo_input(cell, 300):
        suite.feed(one)
    began_s = time.process_time()
    for _ in range(100):
        size = len(suite.snapshot())
    print(
        json.dumps(
            {
                "demo_us_per_plant_s": round(cpu_s / plant_s * 1e6, 1),
                "demo_times_plant": round(plant_s / cpu_s),
                "demo_rows": rows,
                "demo_episodes": episodes,
                "wide_tags": wide_tags,
                "wide_rows_per_s": round(wide_rows / wide_s),
                "wide_tag_samples_per_s": round(wide_rows * wide_tags / wide_s),
                "wide_episodes": wide_episodes,
                "snapshot_us": round((time.process_time() - began_s) * 1e4, 1),
                "snapshot_bytes": size,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
