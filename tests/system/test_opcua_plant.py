"""Collector, robot and doctor against the simulated cell's own server: encrypted, with users, faster than the wall."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from connectors.clock import ScaledClock, SystemClock
from connectors.opcua import pki
from connectors.opcua.checks import check_server
from connectors.opcua.session import APPLICATION_URI, COMMON_NAME
from connectors.plant.configuration import demo_cell
from connectors.robots import ROBOTS
from schemas.commands import Command
from schemas.outcomes import Answered
from schemas.samples import Gap, LineEvent, SampleBatch, Tick
from schemas.settings import OpcUaSettings
from tests.opcua_collecting import PATIENCE_S, START_S, collecting, run
from tests.opcua_plc import free_port

SPEED = 10.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    """The agent's side and the cell's trust in it; the cell makes the rest at its first start."""
    own = pki.ensure_certificate(tmp_path / "agent", application_uri=APPLICATION_URI, common_name=COMMON_NAME)
    (tmp_path / "cell").mkdir()
    pki.trust(tmp_path / "cell" / "pki", own.certificate)
    return tmp_path


def settings(url: str, folder: Path) -> OpcUaSettings:
    users = folder / "cell" / "users"
    named = {n: {"name": n, "password_file": str(users / f"{n}.password")} for n in ("collector", "actuator")}
    body = {"url": url, "certificates": str(folder / "agent"), "connect_timeout_s": 20.0}
    return OpcUaSettings.model_validate(body | named)


@contextlib.asynccontextmanager
async def plant(folder: Path, port: int, origin_us: int):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.plant.process", "--data", str(folder / "cell"), "--port", str(port),
        "--speed", str(SPEED), "--origin-us", str(origin_us), stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_S):
            ready = json.loads(await process.stdout.readline())
        pki.trust(folder / "agent", Path(ready["certificate"]))
        yield process, settings(ready["url"], folder)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_the_doctor_finds_the_demo_cell_well(folder):
    async def scenario():
        clock = ScaledClock(SystemClock().now_us(), SPEED)
        async with plant(folder, free_port(), clock.origin_us) as (_, connection):
            assert [c for c in await check_server(demo_cell(), connection, clock) if not c.ok] == []

    run(scenario, 150)


def test_the_demo_cell_is_collected_commanded_and_found_again_after_a_kill(folder):
    async def scenario():
        clock, port = ScaledClock(SystemClock().now_us(), SPEED), free_port()
        async with (
            plant(folder, port, clock.origin_us) as (process, connection),
            collecting(demo_cell(), connection, clock=clock) as got,
        ):
            await got.until(lambda: got.alive() and len(got.samples(1)) > 3)
            assert got.collector.problems == ()
            assert got.of(Tick)[-1].stale == ()
            assert got.of(LineEvent)[0].value == 6
            assert await slowed(connection) == Answered("done", 0, "motion_speed_pct 70.0 %")
            await got.until(lambda: got.samples(12)[-1] == (70.0, 0))
            process.kill()
            await got.until(lambda: not got.alive())
            async with plant(folder, port, clock.origin_us):
                await got.until(got.alive, 30.0)
                assert got.samples(12)[-1] == (70.0, 0)
                assert len(got.of(Gap)) == 1
                assert_complete(got.inputs)

    run(scenario, 240)


async def slowed(connection: OpcUaSettings) -> object:
    """Slow the lift, as the executor would: heartbeat, snapshot, one call."""
    cell = demo_cell()
    robot = ROBOTS["opcua_methods"](cell, cell.robots[0], connection, np.random.default_rng(1))
    task = asyncio.create_task(robot.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not robot.connected:
                await asyncio.sleep(0.05)
        for _ in range(2):
            await robot.beat()
        reading = (await robot.snapshot(["motion_speed_sp_pct", "force_deviation_n"]))["motion_speed_sp_pct"]
        assert reading.good
        command = Command(
            command_id="c-1",
            plan_id="p",
            incident_id="i",
            robot="gripper",
            action="set_motion_speed",
            verb="SetMotionSpeed",
            args={"motion_speed_pct": 70.0},
            from_values={"motion_speed_pct": reading.value},
            origin="plan",
        )
        outcome = await robot.execute(command, command_sha256=command.sha256(), epoch=1, ttl_s=10.0, timeout_s=5.0)
        assert await robot.query("c-1", epoch=1, timeout_s=5.0) == outcome
        assert (await robot.query("never", epoch=1, timeout_s=5.0)).state == "never_seen"
        return outcome
    finally:
        task.cancel()
        await asyncio.wait([task])


def assert_complete(inputs):
    """No sample comes after the tick that called its time complete, but for those that a session begins with."""
    complete, dead = 0, True
    for item in inputs:
        if isinstance(item, Tick):
            complete, dead = item.complete_until, not item.alive
        elif isinstance(item, SampleBatch) and not dead:
            assert item.source_at.min() > complete
