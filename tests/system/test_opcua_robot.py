"""Commands over real TCP: sent once, typed exactly, and honest about what nobody knows."""

from __future__ import annotations

import asyncio
import contextlib
import math

import msgspec
import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from connectors.opcua.actuate import STATES, OpcUaRobot, _beat
from connectors.robots import ROBOTS
from schemas.commands import Command
from schemas.errors import ConnectionFault
from schemas.outcomes import Answered, NotSent, Unknown
from tests.opcua_collecting import PATIENCE_S, Stage, plc_process, run, settings
from tests.opcua_plc import DOUBLE, STRING, UINT32, Plc, cell, free_port

COMMAND = Command(
    command_id="c-1",
    plan_id="p",
    incident_id="i",
    robot="r",
    action="set_force",
    verb="SetForce",
    args={"b_n": 30.0, "a_n": 2.5},
    from_values={"a_n": 1.5, "b_n": 20.0},
    origin="plan",
)


@pytest.fixture(scope="module")
def stage():
    shared = Stage(Plc(free_port()))
    yield shared
    shared.close()


@contextlib.asynccontextmanager
async def robot_at(url, plant_cell=None):
    plant_cell = plant_cell or cell()
    robot = ROBOTS["opcua_methods"](plant_cell, plant_cell.robots[0], settings(url), np.random.default_rng(1))
    task = asyncio.create_task(robot.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not robot.connected:
                await asyncio.sleep(0.02)
        yield robot
    finally:
        task.cancel()
        await asyncio.wait([task])


async def execute(robot, command=COMMAND, timeout_s=5.0):
    return await robot.execute(command, command_sha256="ab" * 32, epoch=7, ttl_s=2.5, timeout_s=timeout_s)


def test_a_command_reaches_the_plc_once_with_all_its_numbers(stage):
    async def scenario(plc):
        async with robot_at(plc.url) as robot:
            assert await execute(robot) == Answered("done", 0, "done")
            assert plc.calls == ["c-1"]
            assert plc.last_call == ("c-1", 7, "ab" * 32, "SetForce", [30.0, 2.5], [20.0, 1.5], 2500)

    stage.play(scenario)


def test_a_command_without_arguments_is_sent_with_empty_lists(stage):
    async def scenario(plc):
        async with robot_at(plc.url) as robot:
            bare = msgspec.structs.replace(COMMAND, args={}, from_values={})
            assert await execute(robot, bare) == Answered("done", 0, "done")
            assert plc.last_call[4:6] == ([], [])

    stage.play(scenario)


def test_every_state_of_the_ledger_is_told_as_it_is(stage):
    async def scenario(plc):
        async with robot_at(plc.url) as robot:
            for number, state in STATES.items():
                plc.answer = (number, 40 + number, f"detail {number}")
                expected = Answered(state, 40 + number, f"detail {number}")
                assert await robot.query("c-1", epoch=7, timeout_s=5.0) == expected
                assert await execute(robot) == expected

    stage.play(scenario)


def test_a_state_that_nobody_agreed_on_is_unknown(stage):
    async def scenario(plc):
        async with robot_at(plc.url) as robot:
            plc.answer = (6, 0, "")
            outcome = await execute(robot)
            assert isinstance(outcome, Unknown)
            assert "not (State 1..5" in outcome.reason

    stage.play(scenario)


def test_no_answer_in_time_is_unknown_and_nothing_is_sent_again(stage):
    async def scenario(plc):
        async with robot_at(plc.url) as robot:
            plc.delay_s = 0.6
            outcome = await execute(robot, timeout_s=0.2)
            assert isinstance(outcome, Unknown)
            assert 0.2 <= outcome.waited_s < 0.6
            await asyncio.sleep(0.8)
            assert plc.calls == ["c-1"]
            plc.delay_s = 0.0
            assert await robot.query("c-1", epoch=7, timeout_s=5.0) == Answered("done", 0, "done")

    stage.play(scenario)


def test_a_server_killed_inside_the_method_leaves_the_outcome_unknown_and_then_nothing_leaves():
    async def scenario():
        port = free_port()
        async with plc_process(port, delay_s=30.0) as process, robot_at(f"opc.tcp://127.0.0.1:{port}/") as robot:
            pending = asyncio.create_task(execute(robot, timeout_s=30.0))
            assert await process.stdout.readline() == b"called\n"
            process.kill()
            outcome = await asyncio.wait_for(pending, 5.0)
            assert isinstance(outcome, Unknown)
            assert "connection lost during Execute" in outcome.reason
            after = await execute(robot)
            assert isinstance(after, NotSent)
            assert "no session" in after.reason

    run(scenario, 120)


def test_without_a_session_nothing_is_sent_read_or_written():
    async def scenario():
        plant_cell = cell()
        robot = OpcUaRobot(
            plant_cell,
            plant_cell.robots[0],
            settings(f"opc.tcp://127.0.0.1:{free_port()}/"),
            rng=np.random.default_rng(1),
        )
        assert isinstance(await execute(robot), NotSent)
        assert isinstance(await robot.query("c-1", epoch=7, timeout_s=1.0), NotSent)
        with pytest.raises(ConnectionFault, match="no session"):
            await robot.snapshot(["force_n"])
        with pytest.raises(ConnectionFault, match="no session"):
            await robot.beat()

    run(scenario)


@pytest.mark.parametrize(
    "changes",
    [
        {"args": {"a": math.nan}, "from_values": {"a": 1.0}},
        {"args": {"a": 1.0}, "from_values": {"a": math.inf}},
        {"args": {"a": 1.0}, "from_values": {"b": 1.0}},
        {"args": {"a": 1.0}, "from_values": {}},
    ],
)
def test_a_command_that_is_not_well_formed_does_not_leave(stage, changes):
    async def scenario(plc):
        async with robot_at(plc.url) as robot:
            assert isinstance(await execute(robot, msgspec.structs.replace(COMMAND, **changes)), NotSent)
            assert plc.calls == []

    stage.play(scenario)


def test_a_plc_without_the_method_gets_nothing(stage):
    async def scenario(plc):
        robots = [{"id": "r", "asset": "a", "kind": "opcua_methods", "node": "/Cell1/State"}]
        async with robot_at(plc.url, cell(robots=robots)) as robot:
            outcome = await execute(robot)
            assert isinstance(outcome, NotSent)
            assert "offers no Execute" in outcome.reason

    stage.play(scenario)


def test_a_method_that_may_not_be_called_is_rejected_by_the_servers_own_word(stage):
    async def scenario(plc):
        async with robot_at(plc.url) as robot:
            methods = await plc.cell.get_methods()
            await plc.server.delete_nodes(list(methods))
            try:
                outcome = await execute(robot)
            finally:
                await plc.add_methods()
            assert isinstance(outcome, Answered)
            assert outcome.state == "rejected"
            assert "Execute not executed: Bad" in outcome.detail

    stage.play(scenario)


def test_a_snapshot_has_values_statuses_and_both_times_in_one_read(stage):
    async def scenario(plc):
        await plc.put("Temperature", 55.0)
        await plc.put("CycleCount", 3, UINT32, status=0x40000000)
        extra = {"id": 6, "name": "difference_n", "asset": "a", "minus": ["force_n", "other_n"], "unit": "N"}
        other = {"id": 7, "name": "other_n", "asset": "a", "node": "/Cell1/Force", "unit": "N", "group": "cycle"}
        gone = {"id": 8, "name": "gone_n", "asset": "a", "node": "/Cell1/Gone", "unit": "N", "group": "cycle"}
        limits = {"range": {"low": 0, "high": 100}}
        tags = [*cell().model_dump()["tags"], extra | limits | {"group": "cycle"}, other | limits, gone | limits]
        async with robot_at(plc.url, cell(tags=tags)) as robot:
            got = await robot.snapshot(["temperature_degc", "cycle_count", "difference_n", "gone_n"])
            assert list(got) == ["temperature_degc", "cycle_count", "difference_n", "gone_n"]
            assert (got["temperature_degc"].value, got["temperature_degc"].good) == (55.0, True)
            assert got["temperature_degc"].source_at > 0 < got["temperature_degc"].server_at
            assert (got["cycle_count"].value, got["cycle_count"].status) == (3.0, 0x40000000)
            assert got["difference_n"].value == 0.0
            assert (got["gone_n"].value, got["gone_n"].status) == (None, 0x80340000)

    stage.play(scenario)


def test_the_heartbeat_has_the_nodes_own_type_and_begins_again_at_its_end(stage):
    async def scenario(plc):
        seen = []
        service = plc.server.iserver.attribute_service
        original = service.write

        async def watched(params, user=None):
            seen.extend(params.NodesToWrite)
            return await original(params, user)

        service.write = watched
        try:
            async with robot_at(plc.url) as robot:
                robot._beats = 2**16 - 2
                for _ in range(3):
                    await robot.beat()
        finally:
            service.write = original
        assert [written.Value.Value.Value for written in seen] == [65535, 0, 1]
        assert {written.Value.Value.VariantType for written in seen} == {ua.VariantType.UInt16}
        assert {(w.Value.SourceTimestamp, w.Value.ServerTimestamp) for w in seen} == {(None, None)}

    stage.play(scenario)


@pytest.mark.parametrize("kind", [ua.VariantType.Boolean, ua.VariantType.UInt32, ua.VariantType.Float])
def test_the_heartbeat_on_the_wire_is_a_value_and_nothing_else(kind):
    value_only = 0x01  # encoding mask of a DataValue, OPC 10000-6, 5.2.2.17
    assert struct_to_binary(_beat(7, kind))[:2] == bytes([value_only, kind])


@pytest.mark.parametrize(("node", "said"), [("/Cell1/Force", "BadUserAccessDenied"), ("/Cell1/Nowhere", "BadNoMatch")])
def test_a_heartbeat_that_cannot_be_written_says_why(stage, node, said):
    async def scenario(plc):
        async with robot_at(plc.url, cell(agent_heartbeat_node=node)) as robot:
            with pytest.raises(ConnectionFault, match=said):
                await robot.beat()

    stage.play(scenario)


def test_a_heartbeat_node_that_holds_text_is_refused(stage):
    async def scenario(plc):
        await plc.add("TextBeat", "x", STRING, writable=True)
        async with robot_at(plc.url, cell(agent_heartbeat_node="/Cell1/TextBeat")) as robot:
            with pytest.raises(ConnectionFault, match="is a String"):
                await robot.beat()

    stage.play(scenario)


@pytest.mark.parametrize("kind", [ua.VariantType.Boolean, ua.VariantType.Byte, ua.VariantType.Int64, DOUBLE])
def test_a_heartbeat_takes_any_type_of_number(stage, kind):
    async def scenario(plc):
        start = False if kind is ua.VariantType.Boolean else 0
        node = await plc.add(f"Beat{kind.name}", start, kind, writable=True)
        async with robot_at(plc.url, cell(agent_heartbeat_node=f"/Cell1/Beat{kind.name}")) as robot:
            await robot.beat()
            assert await node.read_value() == 1

    stage.play(scenario)
