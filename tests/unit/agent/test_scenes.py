"""The scenes of the demo as sequences of facts: what the core concludes and wishes, without plant, model or broker."""

import msgspec
import pytest

from agent.effects import AskReasoner, Dispatch, Notify, TakeSnapshot
from agent.incident import Incident
from schemas import facts
from tests.support.builders import updated
from tests.support.demo import demo_rules, with_policy
from tests.support.story import DONE, Story

GRIP_40 = ("set_grip_force", {"grip_force_n": 40.0})
SPEED_50 = ("set_motion_speed", {"motion_speed_pct": 50.0})
CONVEYOR_60 = ("set_conveyor_speed", {"conveyor_speed_pct": 60.0})


def incident(story: Story) -> Incident:
    (only,) = story.state.incidents.values()
    return only


def test_slip_is_slowed_at_once_then_mended_with_approval_and_the_incident_closes_effective():
    story = Story()
    story.anomaly()
    assert story.outstanding(AskReasoner)[0].request.tier == "reflex"
    story.answer(SPEED_50)
    assert story.last(facts.GuardJudged).decision == "permitted"
    story.done()
    assert story.phases == ["verifying"]
    assert story.outstanding(AskReasoner)[0].request.tier == "proposal"
    story.rebaselined()
    story.answer(GRIP_40)
    assert story.last(facts.GuardJudged).decision == "needs_approval"
    story.verified()
    story.approve()
    story.later(1).done()
    story.clears()
    story.verified()
    story.rebaselined()
    story.wake("quiet")
    assert story.last(facts.IncidentClosed).outcome == "effective"
    assert not story.state.incidents
    assert not story.state.plans
    assert not story.state.commands
    assert [f.command.action for f in story.of(facts.CommandIntended)] == ["set_motion_speed", "set_grip_force"]


@pytest.mark.parametrize(("bucket", "asked_n"), [("normal", 0), ("very_high", 1)])
def test_after_a_proven_effect_nobody_is_asked_about_an_episode_that_stands_at_normal_and_is_not_cleared_yet(
    bucket, asked_n
):
    """Was: the reasoner saw nothing wrong any more, and a person was called to an incident that was mended."""
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.done()
    story.rebaselined()
    story.answer(GRIP_40)
    story.verified()
    story.approve()
    story.later(1).done()
    story.verified()
    story.rebaselined()
    assert incident(story).effective
    told = updated(story.at)
    (tag,) = told.evidence.tags
    now = msgspec.structs.replace(told.evidence, tags=(msgspec.structs.replace(tag, bucket=bucket),))
    story.feed(msgspec.structs.replace(told, evidence=now))
    assert len(story.outstanding(AskReasoner)) == asked_n
    assert not incident(story).escalation


def test_the_facts_of_the_reflex_come_in_the_order_append_act_append():
    story = Story().slip()
    assert story.types() == [
        "agent.started", "anomaly.detected", "incident.opened", "reasoner.asked",
        "reasoner.answered", "plan.proposed", "guard.judged",
        "snapshot.taken", "guard.judged", "command.intended",
        "command.answered", "readback.taken", "command.completed", "reasoner.asked",
    ]  # fmt: skip


@pytest.mark.parametrize(("asked_n", "limit"), [(400.0, "10..50"), (9.0, "10..50")])
def test_an_operator_asking_beyond_the_limit_is_refused_and_told_the_limit(asked_n, limit):
    story = Story()
    story.operator("request", target="set_grip_force", args={"grip_force_n": asked_n})
    story.snapshot()
    judged = story.last(facts.GuardJudged)
    (refusal,) = [v for v in judged.verdicts if v.rule == "range"]
    assert (judged.decision, refusal.result) == ("refused", "refused")
    assert limit in refusal.reason
    assert limit in story.last(facts.PlanDropped).reason
    assert not story.wished(Dispatch)


def test_an_absent_effect_is_compensated_then_the_cell_is_held_then_a_person_is_called():
    story = Story().grip_proposed()
    story.approve()
    story.done()
    story.absent()
    compensation, hold = story.last(facts.PlanProposed).commands
    assert (compensation.args, compensation.from_values) == ({"grip_force_n": 25.0}, {"grip_force_n": 40.0})
    assert (compensation.origin, hold.origin, hold.action) == ("compensation", "fallback", "hold_cell")
    story.later(1).done()
    assert story.plant["grip_force_sp_n"] == 25.0
    assert story.last(facts.CommandCompleted).verify is False
    story.later(1).done()
    story.verified()
    assert story.last(facts.IncidentEscalated).reason.endswith("the way back to safe is done")
    assert incident(story).escalation
    assert not incident(story).effective
    assert any(note.urgent and "needs you" in note.title for note in story.wished(Notify))


def test_an_escalated_incident_closes_as_escalated_once_it_is_quiet():
    story = Story().grip_proposed()
    story.approve()
    story.done()
    story.absent()
    story.later(1).done()
    story.later(1).done()
    story.verified()
    story.clears()
    story.wake("quiet")
    assert story.last(facts.IncidentClosed).outcome == "escalated"


def test_a_hold_without_effect_ends_the_way_back_and_says_so():
    story = Story().grip_proposed()
    story.approve()
    story.done()
    story.absent()
    story.later(1).done()
    story.later(1).done()
    story.absent()
    assert "the way back to safe failed: effect absent" in story.last(facts.IncidentEscalated).reason
    assert len(story.of(facts.IncidentEscalated)) == 1


def test_a_failed_compensation_still_leads_to_the_hold():
    story = Story().grip_proposed()
    story.approve()
    story.done()
    story.absent()
    story.plant["grip_force_sp_n"] = 33.0
    story.later(1).snapshot()
    compensation, hold = story.of(facts.GuardJudged)[-2:]
    assert [v.rule for v in compensation.verdicts if v.result == "refused"] == ["setpoint.moved"]
    assert (hold.decision, story.outstanding(TakeSnapshot)[0].action) == ("permitted", "hold_cell")
    story.later(1).done()
    assert story.last(facts.CommandIntended).command.action == "hold_cell"


def test_without_a_way_back_the_absent_effect_is_escalated_at_once():
    story = Story(with_policy(demo_rules(), hold_action=""))
    story.slip()
    story.absent()
    assert "there is no way back" in story.last(facts.IncidentEscalated).reason


def test_a_stuck_sensor_opens_a_data_quality_incident_and_nobody_is_asked():
    story = Story()
    story.anomaly(detector="stuck")
    story.goes_on()
    assert incident(story).kind == "data_quality"
    assert not story.wished(AskReasoner)
    assert not story.wished(TakeSnapshot)
    story.clears()
    story.wake("quiet")
    assert story.last(facts.IncidentClosed).outcome == "cleared"


def test_an_action_whose_proof_is_not_believed_is_refused():
    story = Story()
    story.anomaly(detector="stuck", episode="q1")
    story.later(60).anomaly("finger_position_mm", episode="ep2")
    story.answer()
    story.answer(GRIP_40)
    assert story.refusals == ["interlock.data_quality"]


def test_a_set_point_moved_by_hand_while_a_person_decides_drops_the_plan_and_says_why():
    story = Story().grip_proposed()
    story.plant["grip_force_sp_n"] = 30.0
    story.later(20).approve()
    story.snapshot()
    assert story.refusals == ["setpoint.moved"]
    assert "was 25 when this was proposed and is 30 now" in story.last(facts.PlanDropped).reason
    assert not story.wished(Dispatch)


def test_the_off_switch_drops_what_waits_and_a_later_approval_sends_nothing():
    story = Story().grip_proposed()
    waiting = story.waiting_for_approval()
    story.operator("off", who="ben", reason="strange noise")
    assert story.last(facts.PlanDropped).reason == "ben switched automation off"
    story.operator("approve", target=waiting.command.command_id, command_sha256=waiting.sha256)
    assert story.last(facts.RequestRefused).rule == "approval.target"
    assert not story.of(facts.CommandIntended)
    assert not story.wished(TakeSnapshot)


def test_while_off_nothing_is_asked_and_when_on_again_the_open_incident_is():
    story = Story()
    story.operator("off")
    story.anomaly()
    story.goes_on()
    assert not story.wished(AskReasoner)
    story.operator("on")
    assert [ask.request.tier for ask in story.outstanding(AskReasoner)] == ["reflex"]


def test_an_answer_that_comes_while_off_is_refused_by_the_switch():
    story = Story()
    story.anomaly()
    story.operator("off")
    story.answer(SPEED_50)
    assert "off_switch" in story.refusals
    assert not story.wished(TakeSnapshot)


def test_two_faults_at_once_on_two_assets_get_the_right_action_each():
    story = Story()
    story.anomaly("part_slip_mm", "ep1")
    story.later(1).anomaly("drive_current_a", "ep2", detector="shift")
    assert incident(story).assets == ("gripper", "drive")
    story.answer(SPEED_50)
    story.later(0.1).done()
    story.answer()
    raw = """{"findings": [
        {"evidence": "E1", "asset": "gripper", "diagnosis": "oil",
         "actions": [{"name": "set_grip_force", "args": {"grip_force_n": 40}}]},
        {"evidence": "E2", "asset": "drive", "diagnosis": "drag",
         "actions": [{"name": "set_conveyor_speed", "args": {"conveyor_speed_pct": 60}}]}]}"""
    story.answer_text(raw)
    story.approve()
    story.later(0.1).done()
    verifying = [c.command.command_id for c in story.state.commands.values() if c.command.action == "set_grip_force"]
    story.feed(facts.EffectVerified(at=story.at, command_id=verifying[0], rows=10, worst=1.0))
    story.later(0.1).done()
    sent = [(f.command.action, f.command.robot) for f in story.of(facts.CommandIntended)]
    assert sent == [("set_motion_speed", "gripper"), ("set_grip_force", "gripper"), ("set_conveyor_speed", "drive")]


def test_two_incidents_on_two_assets_run_side_by_side():
    story = Story()
    story.anomaly("part_slip_mm", "ep1")
    story.answer(SPEED_50)
    story.later(20).anomaly("drive_current_a", "ep2")
    assert len(story.state.incidents) == 2
    story.answer(CONVEYOR_60, asset="drive")
    assert len(story.outstanding(TakeSnapshot)) == 2
    for wish in story.outstanding(TakeSnapshot):
        story.snapshot(wish.subject_id)
    assert len(story.outstanding(Dispatch)) == 2


def test_two_incidents_that_have_no_asset_in_common_each_close_by_themselves():
    story = Story()
    story.anomaly("part_slip_mm", "ep1")
    story.answer()
    story.later(20).anomaly("drive_current_a", "ep2")
    story.clears("ep1")
    story.answer()
    story.wake("quiet")
    assert len(story.of(facts.IncidentClosed)) == 1
    assert [i.assets for i in story.state.incidents.values()] == [("drive",)]


def test_observe_mode_watches_and_asks_but_never_wishes_for_a_machine():
    story = Story(mode="observe")
    story.anomaly()
    story.answer(SPEED_50)
    story.answer(GRIP_40)
    story.operator("request", target="clean_pads")
    story.operator("hold")
    assert story.wished(AskReasoner)
    assert not story.wished(TakeSnapshot)
    assert not story.wished(Dispatch)
    assert [f.rule for f in story.of(facts.RequestRefused)] == ["mode", "mode"]


def test_a_restart_into_observe_drops_what_waits():
    story = Story().grip_proposed()
    story.operator("request", target="set_grip_force", args={"grip_force_n": 30.0})
    restarted = facts.AgentStarted(at=story.at, version="0", code_sha256="0" * 64, mode="observe", epoch=2)
    story.feed(restarted)
    assert story.last(facts.PlanDropped).reason == "mode is observe: nothing is sent"
    assert story.last(facts.RequestRefused).rule == "mode"
    assert not story.outstanding(TakeSnapshot)


def test_an_operators_hold_needs_no_second_person():
    story = Story()
    story.operator("hold")
    story.snapshot()
    assert (story.last(facts.GuardJudged).decision, story.last(facts.GuardJudged).approvals) == ("permitted", 0)
    story.later(0.1).snapshot()
    story.sent(DONE)
    assert story.phases == ["reading_back"]
