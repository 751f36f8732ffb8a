"""One suite for every robot, against a PLC of the simulated cell: each kind of the table `ROBOTS` by its bench."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest

from schemas.commands import Command
from schemas.errors import ConnectionFault
from schemas.outcomes import Answered, NotSent, Unknown
from tests.contracts.benches import KINDS, bench

Use = Callable[[Callable[..., Awaitable[None]]], None]


@pytest.fixture(scope="module", params=KINDS)
def standing(request, tmp_path_factory) -> Iterator[tuple[str, object]]:
    with bench(request.param).stands(tmp_path_factory.mktemp("robot")) as shared:
        yield request.param, shared


@pytest.fixture
def use(request, standing, tmp_path) -> Use:
    kind, shared = standing

    def run(story: Callable[..., Awaitable[None]]) -> None:
        async def go() -> None:
            async with bench(kind).connected(shared, tmp_path) as robot:
                present = (await robot.snapshot(["motion_speed_sp_pct"]))["motion_speed_sp_pct"].value
                await story(robot, str(uuid.uuid5(uuid.NAMESPACE_OID, request.node.name)), present)

        asyncio.run(go())

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
