"""One suite for every robot: in one process, and over OPC UA against a PLC in a process of its own."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.clock import VirtualClock
from connectors.opcua import pki, session
from connectors.plant.configuration import demo_cell
from connectors.plant.direct import DirectPlant, DirectRobot
from connectors.robots import ROBOTS
from schemas.commands import Command
from schemas.errors import ConnectionFault
from schemas.outcomes import Answered, NotSent, Unknown
from schemas.settings import OpcUaSettings, User
from tests.plant_process import CellProcess

CELL = demo_cell()
START_S = 60.0
Use = Callable[[Callable[..., Awaitable[None]]], None]


@pytest.fixture(scope="module")
def cell(tmp_path_factory) -> Iterator[CellProcess]:
    process = CellProcess(tmp_path_factory.mktemp("robot"), speed=1.0)
    process.start()
    yield process
    assert process.end()[0] == 0


@asynccontextmanager
async def over_opcua(cell: CellProcess, folder: Path) -> AsyncIterator[object]:
    own = pki.ensure_certificate(
        folder / "pki", application_uri=session.APPLICATION_URI, common_name=session.COMMON_NAME
    )
    pki.trust(cell.data / "plant" / "pki", own.certificate)
    pki.trust(folder / "pki", Path(cell.ready["certificate"]))
    user = User(name="actuator", password_file=str(cell.data / "plant" / "users" / "actuator.password"))
    settings = OpcUaSettings(url=cell.ready["url"], certificates=str(folder / "pki"), actuator=user)
    robot = ROBOTS["opcua_methods"](CELL, CELL.robots[0], settings, np.random.default_rng(1))
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


@asynccontextmanager
async def in_process() -> AsyncIterator[object]:
    plant = DirectPlant(CELL, 1, VirtualClock(1_000_000_000_000))
    plant.run(5.0)
    plant.station.plc.agent_beat(1)
    plant.station.plc.agent_beat(2)
    yield DirectRobot(plant)


@pytest.fixture(params=["direct", "opcua"])
def use(request, tmp_path) -> Use:
    def run(story: Callable[..., Awaitable[None]]) -> None:
        async def go() -> None:
            opened = (
                in_process() if request.param == "direct" else over_opcua(request.getfixturevalue("cell"), tmp_path)
            )
            async with opened as robot:
                present = (await robot.snapshot(["motion_speed_sp_pct"]))["motion_speed_sp_pct"].value
                await story(robot, str(uuid.uuid5(uuid.NAMESPACE_OID, request.node.name)), present)

        asyncio.run(go())

    if request.param == "opcua":
        request.getfixturevalue("cell")
    return run


EPOCH = iter(range(1_000, 1_000_000))


def slower(command_id: str, present: float, value: float | None = None) -> Command:
    wanted = present - 1.0 if value is None else value
    return Command(command_id, "p", "i", "gripper", "set_motion_speed", "SetMotionSpeed",
                   {"motion_speed_pct": wanted}, {"motion_speed_pct": present}, "plan")  # fmt: skip


async def execute(robot, command: Command, epoch: int, sha256: str = ""):
    return await robot.execute(
        command, command_sha256=sha256 or command.sha256(), epoch=epoch, ttl_s=10.0, timeout_s=10.0
    )


def test_a_command_is_done_and_reads_back(use):
    async def story(robot, name, present):
        done = await execute(robot, slower(name, present), next(EPOCH))
        assert isinstance(done, Answered)
        assert done.state == "done", done
        read = (await robot.snapshot(["motion_speed_sp_pct"]))["motion_speed_sp_pct"]
        assert (read.value, read.good) == (present - 1.0, True)

    use(story)


def test_the_same_command_again_is_answered_as_before_and_not_done_again(use):
    async def story(robot, name, present):
        epoch = next(EPOCH)
        first = await execute(robot, slower(name, present), epoch)
        second = await execute(robot, slower(name[::-1], present - 1.0), epoch)
        again = await execute(robot, slower(name, present), epoch)
        assert [first.state, second.state, again.state] == ["done", "done", "done"]
        read = (await robot.snapshot(["motion_speed_sp_pct"]))["motion_speed_sp_pct"]
        assert read.value == present - 2.0

    use(story)


def test_the_same_id_with_another_hash_is_refused(use):
    async def story(robot, name, present):
        epoch = next(EPOCH)
        await execute(robot, slower(name, present), epoch)
        other = await execute(robot, slower(name, present - 1.0), epoch, "0" * 64)
        assert other.state == "rejected"

    use(story)


def test_a_query_finds_what_was_done_and_does_not_know_what_was_not(use):
    async def story(robot, name, present):
        epoch = next(EPOCH)
        await execute(robot, slower(name, present), epoch)
        assert (await robot.query(name, epoch=epoch, timeout_s=10.0)).state == "done"
        assert (await robot.query(name[::-1], epoch=epoch, timeout_s=10.0)).state == "never_seen"

    use(story)


def test_a_query_fences_every_lower_epoch(use):
    async def story(robot, name, present):
        low, high = next(EPOCH), next(EPOCH)
        assert (await robot.query(name, epoch=high, timeout_s=10.0)).state == "never_seen"
        late = await execute(robot, slower(name, present), low)
        assert late.state == "rejected"
        read = (await robot.snapshot(["motion_speed_sp_pct"]))["motion_speed_sp_pct"]
        assert read.value == present

    use(story)


def test_a_query_that_is_refused_itself_says_nothing_about_the_command(use):
    async def story(robot, name, present):
        low, high = next(EPOCH), next(EPOCH)
        assert (await execute(robot, slower(name, present), high)).state == "done"
        assert isinstance(await robot.query(name, epoch=low, timeout_s=10.0), Unknown)

    use(story)


def test_a_set_point_that_is_no_longer_what_it_was_refuses_the_command(use):
    async def story(robot, name, present):
        moved = slower(name, present + 0.5, present - 5.0)
        assert (await execute(robot, moved, next(EPOCH))).state == "rejected"

    use(story)


@pytest.mark.parametrize("value", [math.nextafter(20.0, 0.0), math.nextafter(100.0, 200.0), math.nan, math.inf, -1e308])
def test_the_plc_refuses_by_limits_of_its_own_whatever_the_guard_said(use, value):
    async def story(robot, name, present):
        outcome = await execute(robot, slower(name, present, value), next(EPOCH), "0" * 64)
        # What is no number need not even leave.
        assert isinstance(outcome, NotSent) or outcome.state == "rejected"
        assert (await robot.snapshot(["motion_speed_sp_pct"]))["motion_speed_sp_pct"].value == present

    use(story)


def test_400_n_is_refused_by_the_plc_with_the_guard_out_of_the_way(use):
    async def story(robot, name, present):
        force = (await robot.snapshot(["grip_force_sp_n"]))["grip_force_sp_n"].value
        command = msgspec.structs.replace(
            slower(name, present),
            verb="SetGripForce",
            args={"grip_force_n": 400.0},
            from_values={"grip_force_n": force},
        )
        refused = await execute(robot, command, next(EPOCH))
        assert refused.state == "rejected"
        assert "400" in refused.detail
        assert (await robot.snapshot(["grip_force_sp_n"]))["grip_force_sp_n"].value == force

    use(story)


def test_a_tag_that_nobody_has_is_a_fault_that_names_it(use):
    async def story(robot, name, present):
        with pytest.raises(ConnectionFault, match="no_such_tag"):
            await robot.snapshot(["no_such_tag"])

    use(story)
