"""The plant in one process: what a collector would be given, moment by moment, and what sensors do to it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from connectors.clock import VirtualClock
from connectors.plant.codes import Code
from connectors.plant.configuration import demo_cell
from connectors.plant.direct import RESTART_S, DirectPlant, DirectRobot
from connectors.plant.tags import LATCHED, STATUS_WAITING, Publisher
from schemas.commands import Command
from schemas.errors import ConfigError, ConnectionFault
from schemas.outcomes import Answered, NotSent, Unknown
from schemas.plant import Cell
from schemas.samples import STATUS_BAD, Gap, LineEvent, SampleBatch, Tick

START_US = 1_700_000_000_000_000
CELL = demo_cell()
NAMES = {tag.id: tag.name for tag in CELL.tags}
CYCLE_TAGS = {tag.name for tag in CELL.tags if tag.group == "cycle" and tag.minus is None}


def plant(seed=1):
    return DirectPlant(CELL, seed, VirtualClock(START_US))


def rows(inputs):
    """Yield (tag, value, status, source_at) of all batches in order."""
    for batch in inputs:
        if isinstance(batch, SampleBatch):
            for i in range(len(batch)):
                yield NAMES[int(batch.tag[i])], float(batch.value[i]), int(batch.status[i]), int(batch.source_at[i])


def column(inputs, name):
    return [row for row in rows(inputs) if row[0] == name]


def same(a, b):
    if not isinstance(a, SampleBatch):
        return a == b
    columns = ("tag", "source_at", "server_at", "value", "status")
    return a.seq == b.seq and all(np.array_equal(getattr(a, c), getattr(b, c), equal_nan=c == "value") for c in columns)


def command(verb="SetGripForce", args=None, old=None, command_id="a"):
    return Command(
        command_id=command_id, plan_id="p", incident_id="i", robot="gripper", action="x", verb=verb,
        args={"grip_force_n": 40.0} if args is None else args,
        from_values={"grip_force_n": 15.0} if old is None else old, origin="plan",
    )  # fmt: skip


def send(robot, sent):
    return asyncio.run(robot.execute(sent, command_sha256=sent.sha256(), epoch=1, ttl_s=10.0, timeout_s=1.0))


def test_equal_seeds_and_equal_actions_give_equal_inputs():
    def told():
        made = plant(5)
        inputs = made.run(8)
        made.station.inject("oil_on_pads", 1.0)
        inputs += made.run(8)
        send(DirectRobot(made), command())
        return inputs + made.run(8)

    first, second = told(), told()
    assert len(first) == len(second)
    assert all(map(same, first, second))


def test_tags_of_a_cycle_share_one_source_time_and_the_counter_comes_last():
    made = plant()
    made.run_cycle()
    inputs = made.run_cycle()
    (batch,) = [b for b in inputs if isinstance(b, SampleBatch) and "part_slip_mm" in {NAMES[int(t)] for t in b.tag}]
    assert {NAMES[int(t)] for t in batch.tag} == CYCLE_TAGS
    assert set(batch.source_at.tolist()) == {START_US + 2 * 2_700_000}
    assert (NAMES[int(batch.tag[-1])], batch.value[-1]) == ("cycle_count", 2.0)


def test_unchanged_set_points_are_published_with_every_cycle():
    inputs = plant().run(6)
    assert [(r[1], r[3] - START_US) for r in column(inputs, "grip_force_sp_n")] == [
        (15.0, 0), (15.0, 2_700_000), (15.0, 5_400_000)
    ]  # fmt: skip


def test_status_and_tick_come_every_second_of_plant_time_also_while_held():
    made = plant()
    made.run(3)
    send(DirectRobot(made), command("Hold", {}, {}))
    made.run(6)
    inputs = made.run(10)
    ticks = [t.complete_until for t in inputs if isinstance(t, Tick)]
    assert np.diff(ticks).tolist() == [1_000_000] * (len(ticks) - 1)
    assert np.diff([r[1] for r in column(inputs, "plc_heartbeat")]).tolist() == [1.0] * (len(ticks) - 1)
    assert column(inputs, "part_slip_mm") == []


def test_times_never_go_back_and_messages_are_numbered_without_gap():
    made = plant()
    made.station.inject("oil_on_pads", 1.0)
    times, numbers = [], []
    for step in made.steps():
        times.append(step.at_us)
        numbers += [message.seq for message in step.inputs]
        if step.at_us > START_US + 30_000_000:
            break
    assert times == sorted(times)
    assert numbers == list(range(len(numbers)))


def test_set_point_is_shown_at_once_and_latched_with_the_cycle_that_it_drove():
    made = plant()
    made.run(4)
    send(DirectRobot(made), command())
    inputs = made.run(8)
    first = column(inputs, "grip_force_sp_n")[0]
    assert (first[1], first[3]) == (40.0, START_US + 4_000_000)
    latched = [r[1] for r in column(inputs, "grip_force_latched_sp_n")]
    assert latched[0] == 15.0  # the cycle that ran when the command came
    assert latched[-1] == 40.0


def test_packml_states_are_told_as_line_events_in_order():
    made = plant()
    inputs = made.run(3)
    send(DirectRobot(made), command("CleanPads", {}, {}))
    inputs += made.run(30)
    assert [e.value for e in inputs if isinstance(e, LineEvent)] == [6, 13, 5, 14, 6]


def test_hand_change_of_a_set_point_is_shown_at_once():
    made = plant()
    made.run(3)
    made.station.plc.set_by_hand("motion_speed_pct", 80.0)
    assert column(made.run(1), "motion_speed_sp_pct")[0][1] == 80.0


# ---------------------------------------------------------------- sensors


def broken_sensor(fault, tag=""):
    made = plant()
    made.run_cycle()
    made.station.inject(fault, 1.0, tag)
    inputs = []
    for _ in range(4):
        inputs += made.run_cycle()
    return made, column(inputs, tag or "part_slip_mm")


def test_stuck_sensor_repeats_its_value_with_fresh_times():
    _, seen = broken_sensor("stuck_sensor")
    assert len({value for _, value, _, _ in seen[1:]}) == 1
    assert len({at for *_, at in seen}) == len(seen) == 4


def test_frozen_sensor_is_silent_because_even_its_time_stands_still():
    made, seen = broken_sensor("frozen_sensor", "lift_peak_a")
    assert len(seen) <= 1  # the cycle that ran when it froze
    assert made.station.publisher.image["lift_peak_a"].source_at < made.clock.now_us() - 6_000_000


def test_bad_status_comes_without_a_number():
    _, seen = broken_sensor("bad_status")
    assert [status for *_, status, _ in seen[1:]] == [STATUS_BAD] * 3
    assert all(np.isnan(value) for _, value, _, _ in seen[1:])


def test_mended_sensor_shows_the_process_again():
    made, _ = broken_sensor("bad_status")
    made.station.inject("bad_status", 0.0)
    made.run_cycle()
    made.run_cycle()
    assert made.station.publisher.image["part_slip_mm"].status == 0


def test_other_tags_are_untouched_by_a_broken_sensor():
    healthy = plant()
    for _ in range(5):
        healthy.run_cycle()
    made, _ = broken_sensor("bad_status")
    names = CYCLE_TAGS - {"part_slip_mm"}
    assert {n: made.station.publisher.image[n] for n in names} == {n: healthy.station.publisher.image[n] for n in names}


@pytest.mark.parametrize("tag", ["cycle_count", "packml_state", "nothing"])
def test_sensor_that_does_not_exist_cannot_break(tag):
    with pytest.raises(ValueError, match="no sensor delivers"):
        plant().station.inject("stuck_sensor", 1.0, tag)


# ---------------------------------------------------------------- outages


def test_lost_connection_is_silent_and_then_a_gap_and_everything_anew():
    made = plant()
    made.run(10)
    made.lose_connection(5.0)
    lost_at = made.clock.now_us()
    inputs = made.run(8)
    dead = [t for t in inputs if isinstance(t, Tick) and not t.alive]
    assert len(dead) == 4
    (gap,) = [g for g in inputs if isinstance(g, Gap)]
    assert gap.from_at == lost_at
    assert gap.until_at >= lost_at + 5_000_000
    after = inputs[inputs.index(gap) + 1]
    assert {NAMES[int(t)] for t in after.tag} == {t.name for t in CELL.tags if t.minus is None}
    assert not any(lost_at < r[3] < lost_at + 1_000_000 for r in rows(inputs))


def test_nothing_is_sent_and_nothing_known_while_the_connection_is_lost():
    made, robot = (x := plant()), DirectRobot(x)
    made.run(2)
    made.lose_connection(5.0)
    assert isinstance(send(robot, command()), NotSent)
    assert isinstance(asyncio.run(robot.query("a", epoch=1, timeout_s=1.0)), Unknown)
    with pytest.raises(ConnectionFault):
        asyncio.run(robot.snapshot(["part_slip_mm"]))


def test_restart_forgets_counters_and_keeps_set_points_state_and_ledger():
    made, robot = (x := plant()), DirectRobot(x)
    made.run(12)
    send(robot, command())
    send(robot, command("Hold", {}, {}, "b"))
    made.run(4)
    made.restart()
    made.run(RESTART_S + 3)
    plc = made.station.plc
    assert (plc.cycle_count, plc.state.name, plc.setpoints.grip_force_n) == (0, "HELD", 40.0)
    assert asyncio.run(robot.query("a", epoch=1, timeout_s=1.0)) == Answered("done", 0, "grip_force_n 40.0 N")
    assert made.station.publisher.image["part_slip_mm"].status == STATUS_WAITING


def test_emergency_stop_aborts_and_no_cycle_ends():
    made = plant()
    made.run(4)
    made.station.set_permissive("estop_ok", False)
    assert [e.value for e in made.run(6) if isinstance(e, LineEvent)] == [8, 9]
    with pytest.raises(TimeoutError, match="ABORTED"):
        made.run_cycle()


# ---------------------------------------------------------------- the robot


def test_robot_answers_in_the_words_of_the_port():
    made, robot = (x := plant()), DirectRobot(x)
    made.run(2)
    refused = send(robot, command(args={"grip_force_n": 400.0}))
    assert refused == Answered("rejected", int(Code.OUT_OF_LIMITS), "400.0 N is outside 5.0..60.0 N")
    assert send(robot, command(command_id="b")).state == "done"


def test_read_back_sees_a_set_point_directly_after_the_command():
    made, robot = (x := plant()), DirectRobot(x)
    made.run(2)
    send(robot, command())
    assert asyncio.run(robot.snapshot(["grip_force_sp_n"]))["grip_force_sp_n"].value == 40.0


def test_snapshot_computes_derived_tags_and_says_when_there_is_no_number():
    made, robot = (x := plant()), DirectRobot(x)
    made.run_cycle()
    made.station.inject("bad_status", 1.0, "grip_force_n")
    good = asyncio.run(robot.snapshot(["force_deviation_n"]))["force_deviation_n"]
    assert good.value == pytest.approx(0.0, abs=0.3)
    made.run_cycle()
    made.run_cycle()
    bad = asyncio.run(robot.snapshot(["force_deviation_n"]))["force_deviation_n"]
    assert (bad.value, bad.status, bad.good) == (None, STATUS_BAD, False)


def test_snapshot_of_an_unknown_tag_names_it():
    with pytest.raises(ConnectionFault, match="'nothing'"):
        asyncio.run(DirectRobot(plant()).snapshot(["nothing"]))


def test_tag_that_this_plc_has_not_is_named_at_start():
    tags = [
        {**t.model_dump(), "name": "coolant_degc"} if t.name == "lift_peak_a" else t.model_dump() for t in CELL.tags
    ]
    with pytest.raises(ConfigError, match="coolant_degc"):
        Publisher(Cell.model_validate({**CELL.model_dump(), "tags": tags}))


def test_every_sensor_of_the_table_is_in_the_demo_s_configuration():
    assert set(LATCHED) <= {tag.name for tag in CELL.tags}
