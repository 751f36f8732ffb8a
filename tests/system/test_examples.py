"""The examples run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from connectors.clock import VirtualClock
from connectors.eventlog.sqlite import SqliteStore
from pipelines.config import load
from pipelines.demo.scenes import SCENES
from pipelines.demo.stage import SimulatedStage
from pipelines.simulation import START_US, Simulation
from tests.support.demo import CONFIG

ROOT = Path(__file__).parents[2]


def test_reading_a_log_tells_the_incident_its_commands_and_their_effects(tmp_path):
    async def play() -> None:
        store = SqliteStore.open(tmp_path, clock=VirtualClock(START_US))
        try:
            simulation = Simulation(load(CONFIG), seed=1, store=store)
            async with simulation.running():
                await SCENES[0].play(SimulatedStage(simulation))
        finally:
            await store.close()

    asyncio.run(play())
    example = [sys.executable, str(ROOT / "examples" / "read_a_log.py"), str(tmp_path)]
    said = subprocess.run(example, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}).stdout
    lines = [line.strip() for line in said.splitlines()]
    assert lines[0].startswith("incident ")
    assert lines[1] == "set_motion_speed {'motion_speed_pct': 100.0} -> {'motion_speed_pct': 50.0}"
    assert "set_grip_force {'grip_force_n': 15.0} -> {'grip_force_n': 40.0}" in lines
    assert sum(line.startswith("effective: ") for line in lines) == 2
    assert lines[-1] == "closed: effective"
