"""In one process, on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from connectors.clock import VirtualClock
from connectors.plant.configuration import demo_cell
from connectors.plant.direct import DirectPlant, DirectRobot
from tests.contracts.benches import nothing

stands = nothing


def running_plant() -> DirectPlant:
    """A cell that runs, whose PLC has seen the agent's heartbeat."""
    plant = DirectPlant(demo_cell(), 1, VirtualClock(1_000_000_000_000))
    plant.run(5.0)
    plant.station.plc.agent_beat(1)
    plant.station.plc.agent_beat(2)
    return plant


@asynccontextmanager
async def connected(standing: None, folder: Path) -> AsyncIterator[DirectRobot]:
    yield DirectRobot(running_plant())
