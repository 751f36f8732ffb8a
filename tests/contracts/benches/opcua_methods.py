"""Over OPC UA, against the simulated cell in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np

from connectors.opcua import pki, session
from connectors.plant.configuration import demo_cell
from connectors.robots import ROBOTS, ConnectedRobot
from schemas.settings import OpcUaSettings, User
from tests.plant_process import CellProcess

START_S = 60.0


@contextmanager
def stands(folder: Path) -> Iterator[CellProcess]:
    process = CellProcess(folder, speed=1.0)
    process.start()
    yield process
    assert process.end()[0] == 0


@asynccontextmanager
async def connected(standing: CellProcess, folder: Path) -> AsyncIterator[ConnectedRobot]:
    own = pki.ensure_certificate(
        folder / "pki", application_uri=session.APPLICATION_URI, common_name=session.COMMON_NAME
    )
    pki.trust(standing.data / "plant" / "pki", own.certificate)
    pki.trust(folder / "pki", Path(standing.ready["certificate"]))
    user = User(name="actuator", password_file=str(standing.data / "plant" / "users" / "actuator.password"))
    settings = OpcUaSettings(url=standing.ready["url"], certificates=str(folder / "pki"), actuator=user)
    cell = demo_cell()
    robot = ROBOTS["opcua_methods"](cell, cell.robots[0], settings, np.random.default_rng(1))
    running = asyncio.create_task(robot.run())
    try:
        async with asyncio.timeout(START_S):
            while not robot.connected:
                await asyncio.sleep(0.02)
        for _ in range(2):  # the PLC wants to see the heartbeat change
            await robot.beat()
            await asyncio.sleep(0.05)
        yield robot
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
