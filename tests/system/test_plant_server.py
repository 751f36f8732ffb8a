"""The cell on the network, over real TCP with real certificates: who may do what, and what is to be seen."""

from __future__ import annotations

import asyncio
import itertools
import stat
import time

import pytest
from asyncua import Client, ua

from connectors.opcua import pki
from connectors.plant.codes import Code, State
from connectors.plant.configuration import demo_cell
from connectors.plant.tags import SWITCHES
from tests.plant_process import CLIENT_URI, CellProcess, T, doubles

CELL = demo_cell()
TAGS = [tag for tag in CELL.tags if tag.minus is None]
IDS = {tag.name: tag.node.strip("/").replace("/", ".") for tag in TAGS}
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    process = CellProcess(tmp_path_factory.mktemp("cell"))
    process.start()
    yield process
    code, errors = process.end()
    assert (code, "Traceback" in errors) == (0, False), errors


async def until(condition):
    """Wait until the coroutine function says yes."""
    ends = time.monotonic() + WITHIN_S
    while not await condition():
        assert time.monotonic() < ends, "not within the time allowed"
        await asyncio.sleep(0.02)


def refused(cell, status, user="collector", **how):
    async def attempt():
        async with cell.connect(user, **how):
            pass

    with pytest.raises(ua.UaError) as caught:
        asyncio.run(attempt())
    assert getattr(caught.value, "code", None) == status, caught.value


# ---------------------------------------------------------------- who comes in


@pytest.mark.parametrize(("user", "password"), [("collector", "wrong"), ("collector", ""), ("admin", "admin")])
def test_wrong_user_or_password_is_refused(cell, user, password):
    refused(cell, ua.StatusCodes.BadUserAccessDenied, user, password=password)


def test_without_a_user_nobody_comes_in(cell):
    refused(cell, ua.StatusCodes.BadIdentityTokenRejected, None)


def test_password_of_one_user_is_not_that_of_another(cell):
    refused(cell, ua.StatusCodes.BadUserAccessDenied, "actuator", password=cell.password("collector"))


def test_right_password_over_an_open_channel_is_refused(cell, monkeypatch):
    # A client that takes any endpoint and sends passwords in clear; asyncua's own would not.
    monkeypatch.setattr(Client, "find_endpoint", staticmethod(lambda endpoints, *_: endpoints[0]))
    refused(cell, ua.StatusCodes.BadUserAccessDenied, secure=False)


def test_stranger_is_refused_kept_for_a_person_to_see_and_admitted_by_moving_its_file(cell, tmp_path):
    stranger = pki.ensure_certificate(tmp_path, application_uri=CLIENT_URI, common_name="Stranger")
    refused(cell, ua.StatusCodes.BadUserAccessDenied, own=stranger)
    (kept,) = (cell.data / "plant" / "pki" / "rejected").glob("Stranger-*.der")
    pki.trust(cell.data / "plant" / "pki", kept)

    async def comes_in():
        async with cell.connect("collector", own=stranger) as partner:
            return await partner.value("Cell1.PackML.StateNumber")

    assert asyncio.run(comes_in()) == 6.0


def test_passwords_are_for_their_owner_only(cell):
    files = list((cell.data / "plant" / "users").iterdir())
    assert {f.name for f in files} == {f"{u}.password" for u in ("collector", "actuator", "hmi", "simulation")}
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


# ---------------------------------------------------------------- who may do what


METHODS = {
    "Cell1.Execute": [
        ua.Variant("x", T.String), ua.Variant(1, T.Int64), ua.Variant("0" * 64, T.String), ua.Variant("Hold", T.String),
        doubles([]), doubles([]), ua.Variant(1000, T.UInt32),
    ],
    "Cell1.Query": [ua.Variant("x", T.String), ua.Variant(1, T.Int64)],
    "Simulation.Inject": [ua.Variant("oil_on_pads", T.String), ua.Variant(1.0, T.Double), ua.Variant("", T.String)],
    "Simulation.ClearFaults": [],
    "Simulation.SetSetpoint": [ua.Variant("grip_force_n", T.String), ua.Variant(20.0, T.Double)],
    "Simulation.SetPermissive": [ua.Variant("estop_ok", T.String), ua.Variant(False, T.Boolean)],
    "Simulation.Unhold": [],
    "Simulation.Reset": [],
    "Simulation.LoseConnection": [ua.Variant(1.0, T.Double)],
    "Simulation.Restart": [],
}  # fmt: skip
ALLOWED = {"collector": (), "hmi": (), "actuator": ("Cell1.",), "simulation": ("Simulation.",)}


@pytest.mark.parametrize("user", ALLOWED)
def test_user_can_call_nothing_but_its_own_methods(cell, user):
    async def attempt():
        async with cell.connect(user) as partner:
            for name, arguments in METHODS.items():
                may = name.startswith(ALLOWED[user]) if ALLOWED[user] else False
                executable = await partner.node(name).read_attribute(ua.AttributeIds.UserExecutable)
                assert executable.Value.Value is may, name
                if not may:
                    with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                        await partner.call(name, *arguments)

    asyncio.run(attempt())


@pytest.mark.parametrize("user", ALLOWED)
def test_nobody_can_write_anything_but_its_own_tag(cell, user):
    own = {"actuator": "Cell1.AgentHeartbeat", "hmi": "Cell1.Permissives.AgentEnable"}.get(user)

    async def attempt():
        async with cell.connect(user) as partner:
            for name in [*IDS.values(), "Cell1.AgentHeartbeat"]:
                before = await partner.read(name)
                kind = (
                    T.UInt32
                    if name.endswith("AgentHeartbeat")
                    else T.Boolean
                    if name.split(".")[-1] in BOOLEANS
                    else T.Double
                )
                level = (await partner.node(name).read_attribute(ua.AttributeIds.UserAccessLevel)).Value.Value
                assert bool(level & ua.AccessLevel.CurrentWrite.mask) == (name == own), name
                if name != own:
                    with pytest.raises((ua.uaerrors.BadNotWritable, ua.uaerrors.BadUserAccessDenied)):
                        await partner.write(name, 0 if kind is T.UInt32 else before.Value.Value, kind)

    asyncio.run(attempt())


BOOLEANS = {IDS[name].split(".")[-1] for name in SWITCHES}


def test_nobody_can_change_the_address_space_or_another_attribute(cell):
    async def attempt():
        async with cell.connect("simulation") as partner:
            with pytest.raises(ua.UaError):
                await partner.node("Cell1").add_object(partner.id("Mine"), ua.QualifiedName("Mine", 2))
            with pytest.raises(ua.uaerrors.BadNotWritable):
                await partner.node("Cell1.AgentHeartbeat").write_attribute(
                    ua.AttributeIds.AccessLevel, ua.DataValue(ua.Variant(3, T.Byte))
                )

    asyncio.run(attempt())


@pytest.mark.parametrize(("value", "kind"), [(1.0, T.Double), (-1, T.Int32), ([1, 2], T.UInt32)])
def test_heartbeat_of_another_type_is_refused(cell, value, kind):
    async def attempt():
        async with cell.connect("actuator") as partner:
            with pytest.raises(ua.uaerrors.BadTypeMismatch):
                await partner.write("Cell1.AgentHeartbeat", value, kind)

    asyncio.run(attempt())


def test_switch_of_the_agent_at_the_panel_refuses_commands(cell):
    async def attempt():
        async with cell.connect("hmi") as panel, cell.connect("actuator") as agent:
            await panel.write("Cell1.Permissives.AgentEnable", False, T.Boolean)
            assert await agent.value("Cell1.Permissives.AgentEnable") is False
            answer = await agent.execute("off", "SetGripForce", [20.0], [15.0])
            await panel.write("Cell1.Permissives.AgentEnable", True, T.Boolean)
            assert answer[:2] == (State.REJECTED, Code.AGENT_DISABLED)

    asyncio.run(attempt())


# ---------------------------------------------------------------- what is to be seen


def test_every_tag_is_found_by_its_browse_path_with_unit_range_and_type(cell):
    async def attempt():
        async with cell.connect("collector") as partner:
            for tag in TAGS:
                steps = [f"2:{name}" for name in tag.node.strip("/").split("/")]
                node = await partner.client.nodes.objects.get_child(steps)
                kind = ua.ObjectIds.Boolean if tag.name in SWITCHES else ua.ObjectIds.Double
                assert await node.read_data_type() == ua.NodeId(kind), tag.name
                if tag.name in SWITCHES:
                    continue
                limits = await (await node.get_child("0:EURange")).read_value()
                unit = await (await node.get_child("0:EngineeringUnits")).read_value()
                assert (limits.Low, limits.High, unit.DisplayName.Text) == (tag.range.low, tag.range.high, tag.unit)
                assert (await node.read_type_definition()).Identifier == ua.ObjectIds.AnalogUnitRangeType

    asyncio.run(attempt())


def test_unit_codes_are_those_of_unece_recommendation_20(cell):
    async def attempt():
        async with cell.connect("collector") as partner:
            names = ("grip_force_n", "lift_peak_a", "part_slip_mm", "cycle_time_s", "drive_temperature_degc")
            return [(await partner.value(f"{IDS[name]}.EngineeringUnits")).UnitId for name in names]

    # Values of the table that the OPC Foundation publishes with Part 8.
    assert asyncio.run(attempt()) == [5129559, 4279632, 5066068, 5457219, 4408652]


class Seen:
    """Takes notifications in the order in which they come."""

    def __init__(self):
        self.changes = []

    def datachange_notification(self, node, value, data):
        item = data.monitored_item.Value
        self.changes.append((str(node.nodeid.Identifier), value, item.SourceTimestamp, item.StatusCode.value))


async def watch(partner, names, seconds):
    seen = Seen()
    subscription = await partner.client.create_subscription(50, seen)
    always = ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
    requests = [
        ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=partner.id(IDS[name]), AttributeId=ua.AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(
                ClientHandle=handle, SamplingInterval=0.0, Filter=always, QueueSize=100, DiscardOldest=True
            ),
        )
        for handle, name in enumerate(names, start=1)
    ]
    await subscription.create_monitored_items(requests)
    await asyncio.sleep(seconds)
    await subscription.delete()
    return seen.changes


def test_values_of_a_cycle_come_with_one_source_time_changed_or_not_and_the_counter_last(cell):
    names = [tag.name for tag in TAGS if tag.group == "cycle"]

    async def attempt():
        async with cell.connect("collector") as partner:
            return await watch(partner, names, 1.5)

    changes = asyncio.run(attempt())
    counter = IDS["cycle_count"]
    by_time = {}
    for name, _, at, _ in changes:
        by_time.setdefault(at, []).append(name)
    whole = [found for found in by_time.values() if counter in found][1:-1]
    assert len(whole) >= 5
    for found in whole:
        assert set(found) == {IDS[name] for name in names}
        assert found[-1] == counter


def test_status_comes_every_second_of_plant_time_at_twenty_times_its_speed(cell):
    async def attempt():
        async with cell.connect("collector") as partner:
            return await watch(partner, ["plc_heartbeat"], 1.0)

    changes = asyncio.run(attempt())[1:]
    assert len(changes) >= 10
    beats = [value for _, value, _, _ in changes]
    assert beats == [beats[0] + i for i in range(len(beats))]
    spans = {(b[2] - a[2]).total_seconds() for a, b in itertools.pairwise(changes)}
    assert spans == {1.0}


def test_server_s_own_clock_is_the_plant_s(cell):
    async def attempt():
        async with cell.connect("collector") as partner:
            clock = await partner.client.get_node(ua.ObjectIds.Server_ServerStatus_CurrentTime).read_value()
            shown = await partner.read("Cell1.PlcHeartbeat")
            return abs((clock - shown.SourceTimestamp).total_seconds()), shown.ServerTimestamp - shown.SourceTimestamp

    apart_s, published_later = asyncio.run(attempt())
    assert apart_s <= 2.0
    assert published_later.total_seconds() >= 0.0


# ---------------------------------------------------------------- commands


def test_command_is_done_once_and_reads_back_at_once(cell):
    async def attempt():
        async with cell.connect("actuator") as agent:
            await agent.beat()
            first = await agent.execute("once", "SetMotionSpeed", [90.0], [100.0])
            read_back = await agent.value(IDS["motion_speed_sp_pct"])
            again = await agent.execute("once", "SetMotionSpeed", [90.0], [100.0])
            other = await agent.execute("once", "SetMotionSpeed", [80.0], [90.0], sha256="1" * 64)
            asked = await agent.query("once")
            back = await agent.execute("back", "SetMotionSpeed", [100.0], [90.0])
            return first, read_back, again, other[:2], asked, back[0]

    first, read_back, again, other, asked, back = asyncio.run(attempt())
    assert (first[:2], read_back) == ((State.DONE, Code.OK), 90.0)
    assert again == asked == first
    assert other == (State.REJECTED, Code.HASH_MISMATCH)
    assert back is State.DONE


@pytest.mark.parametrize("force_n", [400.0, 60.000001, 4.999999, float("nan"), float("inf"), float("-inf")])
def test_plc_refuses_a_force_beyond_its_own_limits_with_nobody_else_asked(cell, force_n):
    async def attempt():
        async with cell.connect("actuator") as agent:
            answer = await agent.execute(f"too much {force_n}", "SetGripForce", [force_n], [15.0])
            return answer, await agent.value(IDS["grip_force_sp_n"])

    (state, code, _), present = asyncio.run(attempt())
    assert (state, code, present) == (State.REJECTED, Code.OUT_OF_LIMITS, 15.0)


def test_heartbeat_of_the_agent_lives_in_wall_time(cell):
    async def attempt():
        async with cell.connect("actuator") as agent:
            await agent.beat()
            began = await agent.value("Cell1.PlcHeartbeat")
            await asyncio.sleep(0.8)
            answer = await agent.execute("unhurried", "SetGripForce", [15.0], [15.0], beat=False)
            return answer[0], await agent.value("Cell1.PlcHeartbeat") - began

    state, plant_s = asyncio.run(attempt())
    assert plant_s > 6.0  # twice what is allowed in wall time
    assert state is State.DONE


def test_lower_epoch_is_refused_over_the_network(cell):
    async def attempt():
        async with cell.connect("actuator") as agent:
            await agent.query("whatever", epoch=1)
            return await agent.execute("old", "SetGripForce", [20.0], [15.0], epoch=0)

    assert asyncio.run(attempt())[:2] == (State.REJECTED, Code.STALE_EPOCH)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda a: a[:-1], ua.StatusCodes.BadArgumentsMissing),
        (lambda a: [*a, ua.Variant(1, T.Int32)], ua.StatusCodes.BadTooManyArguments),
        (lambda a: [*a[:4], ua.Variant(40.0, T.Double), *a[5:]], ua.StatusCodes.BadInvalidArgument),
        (lambda a: [*a[:1], ua.Variant("1", T.String), *a[2:]], ua.StatusCodes.BadInvalidArgument),
        (lambda a: [ua.Variant(None, T.String), *a[1:]], ua.StatusCodes.BadInvalidArgument),
    ],
)
def test_arguments_of_another_number_or_type_are_refused(cell, change, status):
    async def attempt():
        async with cell.connect("actuator") as agent:
            await agent.call("Cell1.Execute", *change(METHODS["Cell1.Execute"]))

    with pytest.raises(ua.UaStatusCodeError) as caught:
        asyncio.run(attempt())
    assert caught.value.code == status


def test_sequence_is_running_and_then_done_and_states_are_shown(cell):
    async def attempt():
        async with cell.connect("actuator") as agent:
            assert (await agent.execute("clean", "CleanPads"))[0] is State.RUNNING
            assert await agent.value(IDS["packml_state"]) in (13.0, 5.0)

            async def done():
                return (await agent.query("clean"))[0] is State.DONE

            await until(done)

            async def executes():
                return await agent.value(IDS["packml_state"]) == 6.0

            await until(executes)

    asyncio.run(attempt())


def test_hold_is_held_and_unheld_by_the_hidden_hand(cell):
    async def attempt():
        async with cell.connect("actuator") as agent, cell.connect("simulation") as hand:
            with pytest.raises(ua.uaerrors.BadInvalidArgument):
                await hand.call("Simulation.Unhold")
            assert (await agent.execute("hold", "Hold"))[0] is State.DONE

            async def held():
                return await agent.value(IDS["packml_state"]) == 11.0

            await until(held)
            await hand.call("Simulation.Unhold")

            async def executes():
                return await agent.value(IDS["packml_state"]) == 6.0

            await until(executes)

    asyncio.run(attempt())


# ---------------------------------------------------------------- the hidden hand


def test_faults_are_seen_and_cleared(cell):
    async def attempt():
        async with cell.connect("collector") as eye, cell.connect("simulation") as hand:
            await hand.call("Simulation.Inject", *METHODS["Simulation.Inject"])

            async def slips():
                return await eye.value(IDS["part_slip_mm"]) > 2.0

            await until(slips)
            bad = [ua.Variant("bad_status", T.String), ua.Variant(1.0, T.Double), ua.Variant("lift_peak_a", T.String)]
            await hand.call("Simulation.Inject", *bad)

            async def is_bad():
                shown = await eye.read(IDS["lift_peak_a"])
                return shown.StatusCode.value == 0x80000000 and shown.Value.Value is None

            await until(is_bad)
            await hand.call("Simulation.ClearFaults")

            async def is_well():
                shown = await eye.read(IDS["lift_peak_a"])
                return shown.StatusCode.is_good() and await eye.value(IDS["part_slip_mm"]) < 2.0

            await until(is_well)

    asyncio.run(attempt())


def test_set_point_changed_by_hand_is_seen_and_an_old_command_is_refused(cell):
    async def attempt():
        async with cell.connect("actuator") as agent, cell.connect("simulation") as hand:
            await hand.call("Simulation.SetSetpoint", ua.Variant("grip_force_n", T.String), ua.Variant(20.0, T.Double))
            seen = await agent.value(IDS["grip_force_sp_n"])
            answer = await agent.execute("stale decision", "SetGripForce", [40.0], [15.0])
            await hand.call("Simulation.SetSetpoint", ua.Variant("grip_force_n", T.String), ua.Variant(15.0, T.Double))
            return seen, answer[:2]

    assert asyncio.run(attempt()) == (20.0, (State.REJECTED, Code.FROM_MISMATCH))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("Inject", [ua.Variant("rust", T.String), ua.Variant(1.0, T.Double), ua.Variant("", T.String)]),
        ("Inject", [ua.Variant("worn_pad", T.String), ua.Variant(9.0, T.Double), ua.Variant("", T.String)]),
        ("SetSetpoint", [ua.Variant("grip_force_n", T.String), ua.Variant(400.0, T.Double)]),
        ("SetSetpoint", [ua.Variant("colour", T.String), ua.Variant(1.0, T.Double)]),
        ("SetPermissive", [ua.Variant("gravity", T.String), ua.Variant(False, T.Boolean)]),
        ("LoseConnection", [ua.Variant(-1.0, T.Double)]),
    ],
)
def test_what_the_hidden_hand_cannot_do_is_refused(cell, method, arguments):
    async def attempt():
        async with cell.connect("simulation") as hand:
            with pytest.raises(ua.uaerrors.BadInvalidArgument):
                await hand.call(f"Simulation.{method}", *arguments)

    asyncio.run(attempt())
