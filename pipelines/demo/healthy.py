"""Scene (i): a healthy hour of plant time. No command and no incident, or it is told what came."""

from __future__ import annotations

import asyncio
import time
from importlib import resources
from pathlib import Path

from pipelines.config import load
from pipelines.simulation import Simulation
from schemas.facts import CommandIntended, IncidentOpened

HEALTHY_S = 3600.0


def healthy_hour(seed: int, seconds: float = HEALTHY_S) -> str:
    """Run one hour and say what came of it; to be run in a process of its own."""
    return asyncio.run(_run(seed, seconds))


async def _run(seed: int, seconds: float) -> str:
    configuration = load(Path(str(resources.files("connectors.plant").joinpath("config"))))
    simulation, began = Simulation(configuration, seed=seed), time.monotonic()
    async with simulation.running():
        await simulation.run_for(seconds)
    commands = sum(isinstance(f, CommandIntended) for f in simulation.facts)
    incidents = sum(isinstance(f, IncidentOpened) for f in simulation.facts)
    cycles = simulation.plant.station.plc.cycle_count
    came = (
        "no command, no incident" if not commands and not incidents else f"{commands} commands, {incidents} incidents"
    )
    return (
        f"    seed {seed}: {cycles} cycles in {seconds:.0f} s of plant time: {came} ({time.monotonic() - began:.0f} s)"
    )
