"""The cell as a process: outages, restarts, kill -9, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from asyncua import ua

from connectors.plant import process
from connectors.plant.codes import Code, State
from tests.plant_process import CellProcess, T

WITHIN_S = 20.0
NUMBER = ua.Variant(1.0, T.Double)


@pytest.fixture
def fresh(tmp_path):
    made = CellProcess(tmp_path)
    yield made
    if made.process is not None:
        made.end(kill=True)


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    made = CellProcess(tmp_path_factory.mktemp("cell"))
    made.start()
    yield made
    ended_well(made)


def ended_well(cell):
    """End it by SIGTERM. On a busy machine it may say that it was late, and nothing else."""
    code, errors = cell.end()
    assert (code, "Traceback" in errors) == (0, False), errors


async def again(cell, user="actuator"):
    """Connect as soon as the server lets one."""
    ends = time.monotonic() + WITHIN_S
    while True:
        try:
            async with cell.connect(user) as partner:
                return await partner.value("Cell1.Counters.CycleCount"), await partner.value("Cell1.PlcHeartbeat")
        except (OSError, TimeoutError, ua.UaError):
            assert time.monotonic() < ends, "the server did not come back"
            await asyncio.sleep(0.1)


def listens(url):
    host, port = url.split("/")[2].split(":")
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, int(port))) == 0


def test_after_kill_9_the_command_is_known_and_its_set_point_in_force(fresh):
    cell = fresh
    cell.start()

    async def before():
        async with cell.connect("actuator") as agent:
            done = await agent.execute("a", "SetGripForce", [40.0], [15.0], epoch=7)
            held = await agent.execute("b", "Hold", epoch=7)
            return done[0], held[0]

    assert asyncio.run(before()) == (State.DONE, State.DONE)
    assert cell.end(kill=True)[0] == -9
    cell.start()

    async def after():
        async with cell.connect("actuator") as agent:
            stale = (await agent.query("a", epoch=6))[1]
            asked = await agent.query("a", epoch=7)
            repeated = await agent.execute("a", "SetGripForce", [40.0], [15.0], epoch=7)
            present = await agent.value("Cell1.Gripper.GripForceSetpoint")
            state = await agent.value("Cell1.PackML.StateNumber")
            return stale, asked, repeated, present, state

    stale, asked, repeated, present, state = asyncio.run(after())
    assert stale is Code.STALE_EPOCH
    assert asked == repeated == (State.DONE, Code.OK, "grip_force_n 40.0 N")
    assert (present, state) == (40.0, 11.0)


def test_lost_connection_drops_everybody_and_comes_back_by_itself_while_the_plant_goes_on(cell):

    async def lose():
        async with cell.connect("simulation") as hand:
            before = await hand.value("Cell1.PlcHeartbeat")
            await hand.call("Simulation.LoseConnection", NUMBER)
            await asyncio.sleep(0.3)
            with pytest.raises((ConnectionError, ua.UaError, TimeoutError, asyncio.CancelledError)):
                await asyncio.wait_for(hand.value("Cell1.PlcHeartbeat"), 5.0)
            return before

    before = asyncio.run(lose())
    assert not listens(cell.ready["url"])
    _, heartbeat = asyncio.run(again(cell))
    assert heartbeat >= before + 10


@pytest.mark.parametrize("speed_pct", [50.0, 60.0], ids=["once", "and again"])
def test_restart_forgets_counters_and_heartbeat_and_keeps_what_is_retained(cell, speed_pct):
    async def restart():
        async with cell.connect("actuator") as agent, cell.connect("simulation") as hand:
            present = await agent.value("Cell1.Gripper.MotionSpeedSetpoint")
            await agent.execute(f"to {speed_pct}", "SetMotionSpeed", [speed_pct], [present])
            await asyncio.sleep(1.0)
            counted = await agent.value("Cell1.Counters.CycleCount")
            await hand.call("Simulation.Restart")
            await asyncio.sleep(0.3)
            return counted

    async def after():
        async with cell.connect("actuator") as agent:
            silent = await agent.execute(f"after {speed_pct}", "SetMotionSpeed", [70.0], [speed_pct], beat=False)
            asked = await agent.query(f"to {speed_pct}")
            return asked[0], await agent.value("Cell1.Gripper.MotionSpeedSetpoint"), silent[1]

    counted = asyncio.run(restart())
    now, _ = asyncio.run(again(cell))
    assert counted >= 3.0
    assert now is None or now < counted
    # It has forgotten that the agent was alive.
    assert asyncio.run(after()) == (State.DONE, speed_pct, Code.AGENT_SILENT)


def test_insecure_only_by_flag_and_then_strangers_read_and_do_nothing_else(fresh):
    cell, ready = fresh, fresh.start("--insecure", "--origin-us", "1700000000000000")
    assert (ready["speed"], ready["security"], ready["origin_us"]) == (20.0, "None", 1_700_000_000_000_000)

    async def attempt():
        async with cell.connect(None, secure=False) as stranger:
            assert await stranger.value("Cell1.PackML.StateNumber") == 6.0
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await stranger.query("a")
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await stranger.beat()
        async with cell.connect("actuator") as agent:
            return (await agent.query("a"))[0]

    assert asyncio.run(attempt()) is State.NEVER_SEEN
    ended_well(cell)


def test_ready_line_names_all_that_a_partner_needs(cell):
    assert cell.ready["url"].startswith("opc.tcp://127.0.0.1:")
    assert cell.ready["security"] == "SignAndEncrypt"
    assert {"url", "folder", "pid", "speed", "origin_us", "application_uri", "certificate"} <= cell.ready.keys()


def test_port_that_is_taken_is_said(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert process.main(["--data", str(tmp_path), "--port", str(port)]) == 1
    assert str(port) in capsys.readouterr().err


@pytest.mark.parametrize(("speed", "word"), [("21", "above 20.0"), ("0", "above 0"), ("nan", "above")])
def test_speed_beyond_what_a_server_can_do_is_refused(tmp_path, capsys, speed, word):
    assert process.main(["--data", str(tmp_path), "--speed", speed]) == 1
    assert word in capsys.readouterr().err


def test_certificate_that_cannot_be_used_is_named(tmp_path, capsys):
    (tmp_path / "pki" / "own").mkdir(parents=True)
    (tmp_path / "pki" / "own" / "certificate.der").write_bytes(b"not a certificate")
    assert process.main(["--data", str(tmp_path)]) == 1
    assert "certificate.der: certificate: unreadable" in capsys.readouterr().err
