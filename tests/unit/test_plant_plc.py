"""The PLC's half of the handshake, called directly: the guard of the agent is not there to help."""

from __future__ import annotations

import math

import pytest

from connectors.plant.cell import CycleReport, Setpoints
from connectors.plant.codes import Code, State
from connectors.plant.ledger import ENTRIES_MAX, Ledger
from connectors.plant.plc import AGENT_SILENT_S, Cycle, Inputs, Maintenance, Plc, Stand
from schemas.line import PackMLState as S

HASH, OTHER_HASH = "0" * 64, "1" * 64


class Bench:
    """A PLC with its two clocks in hand."""

    def __init__(self, ledger=None, **keywords):
        self.now_us = self.wall_us = 1_000_000_000
        self.ledger = ledger or Ledger(None)
        self.inputs = Inputs()
        self.keywords = keywords
        self.power_up()

    def power_up(self):
        clocks = {"now_us": lambda: self.now_us, "wall_us": lambda: self.wall_us}
        self.plc = Plc(self.ledger, self.inputs, **clocks, **self.keywords)
        self.plc.agent_beat(1)

    def execute(
        self, command_id="a", epoch=1, sha256=HASH, verb="SetGripForce", args=(40.0,), old=(15.0,), ttl_ms=5000
    ):
        return self.plc.execute(command_id, epoch, sha256, verb, list(args), list(old), ttl_ms)

    def sequence(self, verb="CleanPads", command_id="a", ttl_ms=5000):
        return self.execute(command_id, verb=verb, args=(), old=(), ttl_ms=ttl_ms)

    def cycle(self, good=True):
        work = self.plc.begin()
        assert isinstance(work, Cycle)
        return self.plc.cycle_ended(report(good))


def report(good=True):
    return CycleReport(2.7, 2.7, 15.0, 0.6, 22.1, 3.0, 5.2, 0.0, 3.0, 60.0, Setpoints(), good, False)


def said(answer):
    return answer.state, answer.code


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.ledger.close()


# ---------------------------------------------------------------- once


def test_command_is_done_once_however_often_it_is_sent(bench):
    first = bench.execute()
    bench.plc.set_by_hand("grip_force_n", 20.0)
    assert bench.execute() == first
    assert bench.plc.setpoints.grip_force_n == 20.0


def test_same_id_with_another_hash_is_refused_and_the_first_outcome_stays(bench):
    bench.execute()
    assert said(bench.execute(sha256=OTHER_HASH, args=(20.0,), old=(40.0,))) == (State.REJECTED, Code.HASH_MISMATCH)
    assert bench.plc.setpoints.grip_force_n == 40.0
    assert bench.plc.query("a", 1).state is State.DONE


def test_rejection_is_final_for_its_id(bench):
    bench.inputs.remote_enable = False
    assert said(bench.execute()) == (State.REJECTED, Code.REMOTE_DISABLED)
    bench.inputs.remote_enable = True
    assert said(bench.execute()) == (State.REJECTED, Code.REMOTE_DISABLED)


def test_command_that_nobody_sent_was_never_seen(bench):
    assert said(bench.plc.query("nobody", 1)) == (State.NEVER_SEEN, Code.OK)


def test_command_that_fell_out_of_the_ledger_is_forgotten_and_not_done_again(bench):
    bench.execute("first")
    for i in range(ENTRIES_MAX):
        bench.execute(f"c{i}", args=(40.0,), old=(40.0,))
    bench.plc.set_by_hand("grip_force_n", 15.0)
    assert said(bench.plc.query("first", 1)) == (State.FORGOTTEN, Code.OUT_OF_LEDGER)
    assert said(bench.execute("first")) == (State.FORGOTTEN, Code.OUT_OF_LEDGER)
    assert bench.plc.setpoints.grip_force_n == 15.0


@pytest.mark.parametrize("command_id", ["", "x" * 65, "two\nlines"])
def test_unusable_id_is_refused_and_leaves_no_trace(bench, command_id):
    assert said(bench.execute(command_id, epoch=9)) == (State.REJECTED, Code.MALFORMED)
    assert bench.ledger.epoch_floor() == 0


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64])
def test_unusable_hash_is_refused(bench, sha256):
    assert said(bench.execute(sha256=sha256)) == (State.REJECTED, Code.MALFORMED)


# ---------------------------------------------------------------- epochs


def test_lower_epoch_is_refused_and_nothing_changes(bench):
    bench.execute("young", epoch=7)
    assert said(bench.execute("old", epoch=6, args=(20.0,), old=(40.0,))) == (State.REJECTED, Code.STALE_EPOCH)
    assert bench.plc.setpoints.grip_force_n == 40.0
    assert bench.plc.query("old", 7).state is State.NEVER_SEEN


def test_query_fences_every_lower_epoch(bench):
    bench.plc.query("whatever", 5)
    assert said(bench.execute(epoch=4)) == (State.REJECTED, Code.STALE_EPOCH)
    assert said(bench.plc.query("a", 4)) == (State.REJECTED, Code.STALE_EPOCH)
    assert bench.execute(epoch=5).state is State.DONE


def test_rejected_command_fences_too(bench):
    bench.execute(epoch=5, args=(400.0,))
    assert said(bench.execute("b", epoch=4)) == (State.REJECTED, Code.STALE_EPOCH)


def test_fence_outlives_a_restart(bench):
    bench.plc.query("whatever", 5)
    bench.power_up()
    assert said(bench.execute(epoch=4)) == (State.REJECTED, Code.STALE_EPOCH)


# ---------------------------------------------------------------- values


SETPOINTS = [
    ("SetGripForce", "grip_force_n", 15.0, 5.0, 60.0),
    ("SetMotionSpeed", "motion_speed_pct", 100.0, 20.0, 100.0),
    ("SetConveyorSpeed", "conveyor_speed_pct", 100.0, 20.0, 100.0),
]


@pytest.mark.parametrize(("verb", "name", "present", "low", "high"), SETPOINTS)
def test_limits_of_the_plc_at_both_sides_of_each_edge(bench, verb, name, present, low, high):
    inside = [low, high]
    outside = [math.nextafter(low, 0.0), math.nextafter(high, 1e9), -high, 0.0, 400.0, math.nan, math.inf, -math.inf]
    for i, value in enumerate(outside):
        refused = bench.execute(f"out{i}", verb=verb, args=(value,), old=(present,))
        assert said(refused) == (State.REJECTED, Code.OUT_OF_LIMITS), value
        assert getattr(bench.plc.setpoints, name) == present
    for i, value in enumerate(inside):
        done = bench.execute(f"in{i}", verb=verb, args=(value,), old=(getattr(bench.plc.setpoints, name),))
        assert said(done) == (State.DONE, Code.OK), value
        assert getattr(bench.plc.setpoints, name) == value


def test_400_newton_are_refused_naming_the_limit(bench):
    assert bench.execute(args=(400.0,)).detail == "400.0 N is outside 5.0..60.0 N"


@pytest.mark.parametrize("old", [14.999999999, 40.0, math.nan, math.inf])
def test_command_that_was_decided_on_another_set_point_is_refused(bench, old):
    assert said(bench.execute(old=(old,))) == (State.REJECTED, Code.FROM_MISMATCH)
    assert bench.plc.setpoints.grip_force_n == 15.0


@pytest.mark.parametrize(
    ("verb", "args", "old"),
    [
        ("SetGripForce", (), ()), ("SetGripForce", (20.0, 20.0), (15.0, 15.0)), ("SetGripForce", (20.0,), ()),
        ("CleanPads", (1.0,), (1.0,)), ("Hold", (), (1.0,)),
    ],
)  # fmt: skip
def test_wrong_number_of_values_is_refused(bench, verb, args, old):
    assert said(bench.execute(verb=verb, args=args, old=old)) == (State.REJECTED, Code.WRONG_ARGUMENTS)


@pytest.mark.parametrize("verb", ["", "setgripforce", "ResetEmergencyStop", "x" * 5000])
def test_verb_that_the_plc_has_not_is_refused(bench, verb):
    assert said(bench.execute(verb=verb)) == (State.REJECTED, Code.UNKNOWN_VERB)


@pytest.mark.parametrize("value", [4.9, 60.1, math.nan])
def test_limits_hold_for_hands_too(bench, value):
    with pytest.raises(ValueError, match=r"outside 5\.0\.\.60\.0 N"):
        bench.plc.set_by_hand("grip_force_n", value)


def test_retained_set_point_is_in_force_after_a_restart(bench):
    bench.execute()
    bench.power_up()
    assert bench.plc.begin() == Cycle(Setpoints(grip_force_n=40.0))


# ---------------------------------------------------------------- permissives


@pytest.mark.parametrize(
    ("switch", "code"),
    [
        ("remote_enable", Code.REMOTE_DISABLED),
        ("automatic_mode", Code.NOT_AUTOMATIC),
        ("estop_ok", Code.EMERGENCY_STOP),
    ],
)
def test_each_permissive_refuses_by_itself(bench, switch, code):
    setattr(bench.inputs, switch, False)
    assert said(bench.execute()) == (State.REJECTED, code)


def test_switched_off_agent_is_refused_also_after_a_restart(bench):
    bench.plc.switch_agent(False)
    bench.power_up()
    assert said(bench.execute()) == (State.REJECTED, Code.AGENT_DISABLED)


@pytest.mark.parametrize(
    ("silent_us", "wanted"),
    [(3_000_000, (State.DONE, Code.OK)), (3_000_001, (State.REJECTED, Code.AGENT_SILENT))],
)
def test_agent_whose_heartbeat_stands_still_is_refused(bench, silent_us, wanted):
    bench.wall_us += silent_us
    bench.plc.agent_beat(1)  # the same value again is no life
    assert said(bench.execute()) == wanted


def test_agent_that_never_beat_is_refused():
    bench = Bench()
    bench.plc = Plc(bench.ledger, bench.inputs, now_us=lambda: 0, wall_us=lambda: 0)
    assert said(bench.execute()) == (State.REJECTED, Code.AGENT_SILENT)
    bench.ledger.close()


@pytest.mark.parametrize("seconds", [0.0, math.nextafter(AGENT_SILENT_S, 0.0), 61.0, math.inf, math.nan])
def test_supervision_of_the_agent_cannot_be_switched_off(seconds):
    ledger = Ledger(None)
    with pytest.raises(ValueError, match="not switched off"):
        Plc(ledger, Inputs(), now_us=lambda: 0, wall_us=lambda: 0, agent_silent_s=seconds)
    ledger.close()


# ---------------------------------------------------------------- states and sequences


def test_hold_ends_the_cycle_and_then_holds(bench):
    assert isinstance(bench.plc.begin(), Cycle)
    assert said(bench.execute(verb="Hold", args=(), old=())) == (State.DONE, Code.OK)
    assert bench.plc.state is S.HOLDING
    assert bench.plc.cycle_ended(report())
    assert bench.plc.begin() == Stand(None)
    assert (bench.plc.state, bench.plc.cycle_count) == (S.HELD, 1)


def test_hold_is_remembered_over_a_restart(bench):
    bench.execute(verb="Hold", args=(), old=())
    bench.power_up()
    assert bench.plc.begin() == Stand(None)
    assert bench.plc.state is S.HELD


def test_held_cell_runs_again_after_unhold(bench):
    bench.execute(verb="Hold", args=(), old=())
    bench.plc.begin()
    assert bench.execute("b", verb="Unhold", args=(), old=()).state is State.DONE
    assert bench.plc.begin() == Stand(1.0)
    bench.plc.stood()
    assert isinstance(bench.plc.begin(), Cycle)


def test_holding_twice_is_done_and_unholding_a_holding_cell_is_refused(bench):
    bench.execute(verb="Hold", args=(), old=())
    assert said(bench.execute("b", verb="Hold", args=(), old=())) == (State.DONE, Code.OK)
    assert said(bench.execute("c", verb="Unhold", args=(), old=())) == (State.REJECTED, Code.WRONG_STATE)


def test_sequence_runs_after_the_cycle_and_is_done_at_its_end(bench):
    bench.plc.begin()
    assert bench.sequence().state is State.RUNNING
    assert bench.plc.state is S.SUSPENDING
    bench.plc.cycle_ended(report())
    assert bench.plc.begin() == Maintenance("CleanPads", 20.0)
    assert (bench.plc.state, bench.plc.query("a", 1).state) == (S.SUSPENDED, State.RUNNING)
    bench.plc.sequence_ended()
    assert bench.plc.query("a", 1).state is State.DONE
    assert bench.plc.begin() == Stand(1.0)
    assert bench.plc.state is S.UNSUSPENDING


@pytest.mark.parametrize(("waited_ms", "code"), [(5000, Code.OK), (5001, Code.TTL_EXPIRED)])
def test_time_to_live_is_counted_by_the_plc_until_the_sequence_begins(bench, waited_ms, code):
    bench.plc.begin()
    bench.sequence(ttl_ms=5000)
    bench.now_us += waited_ms * 1000
    bench.plc.cycle_ended(report())
    bench.plc.begin()
    assert bench.plc.query("a", 1).code is code


def test_sequence_that_came_too_late_leaves_the_cell_running(bench):
    bench.sequence(ttl_ms=1)
    bench.now_us += 2000
    assert bench.plc.begin() == Stand(1.0)
    bench.plc.stood()
    assert bench.plc.state is S.EXECUTE


@pytest.mark.parametrize("ttl_ms", [0, -1])
def test_command_without_time_is_refused(bench, ttl_ms):
    assert said(bench.execute(ttl_ms=ttl_ms)) == (State.REJECTED, Code.TTL_EXPIRED)


def test_waiting_sequence_does_not_begin_when_a_permissive_fell_meanwhile(bench):
    bench.plc.begin()
    bench.sequence()
    bench.inputs.remote_enable = False
    bench.plc.cycle_ended(report())
    bench.plc.begin()
    assert said(bench.plc.query("a", 1)) == (State.REJECTED, Code.REMOTE_DISABLED)


def test_sequence_occupies_the_gripper_and_nothing_else(bench):
    bench.sequence()
    assert said(bench.sequence("ChangePads", "b")) == (State.REJECTED, Code.WRONG_STATE)
    assert said(bench.execute("c")) == (State.REJECTED, Code.BUSY)
    drive = bench.execute("d", verb="SetConveyorSpeed", args=(60.0,), old=(100.0,))
    assert said(drive) == (State.DONE, Code.OK)
    assert said(bench.execute("e", verb="Hold", args=(), old=())) == (State.DONE, Code.OK)


def test_sequence_interrupted_by_a_restart_is_begun_again_and_ends(bench):
    bench.sequence(ttl_ms=1000)
    bench.plc.begin()
    bench.now_us += 60_000_000
    bench.power_up()
    assert bench.plc.begin() == Maintenance("CleanPads", 20.0)
    bench.plc.sequence_ended()
    assert bench.plc.query("a", 1).state is State.DONE


def test_sequence_in_a_held_cell_leaves_it_held(bench):
    bench.execute("h", verb="Hold", args=(), old=())
    bench.plc.begin()
    assert bench.sequence().state is State.RUNNING
    assert isinstance(bench.plc.begin(), Maintenance)
    bench.plc.sequence_ended()
    assert bench.plc.begin() == Stand(None)
    assert bench.plc.state is S.HELD


def test_emergency_stop_aborts_the_cycle_and_the_sequence(bench):
    bench.plc.begin()
    bench.sequence()
    bench.inputs.estop_ok = False
    bench.plc.read_inputs()
    assert not bench.plc.cycle_ended(report())
    bench.plc.begin()
    assert (bench.plc.state, bench.plc.cycle_count, bench.plc.scrap_count) == (S.ABORTED, 0, 1)
    assert said(bench.plc.query("a", 1)) == (State.REJECTED, Code.OVERTAKEN)


def test_aborted_cell_takes_no_command_and_runs_up_only_by_hand(bench):
    bench.plc.abort()
    bench.plc.begin()
    for i, (verb, args, old) in enumerate(
        [("SetGripForce", (20.0,), (15.0,)), ("Unhold", (), ()), ("CleanPads", (), ())]
    ):
        assert said(bench.execute(str(i), verb=verb, args=args, old=old)) == (State.REJECTED, Code.WRONG_STATE)
    bench.inputs.estop_ok = False
    assert not bench.plc.reset()
    bench.inputs.estop_ok = True
    assert bench.plc.reset()
    seen = []
    while bench.plc.begin() == Stand(1.0):
        seen.append(bench.plc.state)
        bench.plc.stood()
    assert [*seen, bench.plc.state] == [S.CLEARING, S.STOPPED, S.RESETTING, S.IDLE, S.STARTING, S.EXECUTE]


def test_counters(bench):
    for good in (True, False, True):
        assert bench.cycle(good)
    assert (bench.plc.cycle_count, bench.plc.part_count, bench.plc.scrap_count) == (3, 3, 1)
    bench.power_up()
    assert (bench.plc.cycle_count, bench.plc.part_count, bench.plc.scrap_count) == (0, 0, 0)
