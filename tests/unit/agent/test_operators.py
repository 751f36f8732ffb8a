"""What people ask for, and what they are told when it cannot be."""

import pytest

from agent.effects import TakeSnapshot, WakeAt
from schemas import facts
from tests.support.builders import asked_by
from tests.support.demo import demo_rules, with_action, with_policy
from tests.support.story import Story

GRIP_40 = ("set_grip_force", {"grip_force_n": 40.0})


def refused(story: Story) -> str:
    return story.last(facts.RequestRefused).rule


def two_approvers() -> Story:
    return Story(with_action(demo_rules(), "set_grip_force", approvals=2)).grip_proposed()


def test_an_approval_lets_exactly_the_command_that_was_seen_go_on():
    story = Story().grip_proposed()
    command_id = story.one("awaiting_approval")
    story.approve()
    granted = story.last(facts.ApprovalGranted)
    assert (granted.command_id, granted.who) == (command_id, "anna")
    assert [w.subject_id for w in story.outstanding(TakeSnapshot)] == [command_id]


def test_an_approval_of_another_hash_is_refused():
    story = Story().grip_proposed()
    story.approve(sha256="0" * 64)
    assert refused(story) == "approval.hash"
    assert story.phases == ["awaiting_approval"]


def test_the_same_person_cannot_approve_twice():
    story = two_approvers()
    story.approve("anna")
    assert story.phases == ["awaiting_approval"]
    story.approve("anna")
    assert refused(story) == "approval.same_person"
    assert not story.outstanding(TakeSnapshot)
    story.approve("ben")
    assert story.phases == ["awaiting_snapshot"]


@pytest.mark.parametrize("kind", ["approve", "deny"])
def test_a_decision_on_something_that_does_not_wait_is_refused(kind):
    story = Story().slip()
    story.operator(kind, target=story.one("verifying"))
    assert refused(story) == "approval.target"
    story.operator(kind, target="unheard of")
    assert refused(story) == "approval.target"


@pytest.mark.parametrize(("reason", "said"), [("", "no reason given"), ("part is fine", "part is fine")])
def test_a_denied_plan_is_dropped_with_the_persons_reason(reason, said):
    story = Story().grip_proposed()
    story.operator("deny", target=story.one("awaiting_approval"), reason=reason)
    assert story.last(facts.PlanDropped).reason == f"denied by anna: {said}"
    assert not story.state.commands


def test_nobody_deciding_in_time_drops_the_plan():
    story = Story().grip_proposed()
    story.wake("decide_by")
    assert story.last(facts.PlanDropped).reason == "nobody decided in time"


def test_an_approval_at_the_deadline_is_too_late_even_before_the_wake_up():
    """Was: until the wake-up had come through the queue, an approval after `decide_by_at` was accepted."""
    story = Story().grip_proposed()
    decide_by_at = story.waiting_for_approval().decide_by_at
    story.at = decide_by_at
    story.approve()
    assert refused(story) == "approval.expired"
    story.at = decide_by_at - 1
    story.approve()
    assert story.phases == ["awaiting_snapshot"]


def test_a_request_is_followed_once_however_often_it_is_delivered():
    story = Story()
    request = asked_by(story.at, "request", "r0", target="clean_pads")
    story.feed(request)
    story.snapshot()
    before = len(story.facts)
    story.feed(request)
    assert story.types(before) == ["operator.requested"]
    assert len(story.of(facts.PlanProposed)) == 1


def test_a_duplicate_off_does_not_switch_off_what_was_switched_on_since():
    story = Story()
    off = asked_by(story.at, "off", "r0")
    story.feed(off)
    story.operator("on")
    story.feed(off)
    assert story.state.automation_on


def test_a_request_for_an_unknown_action_names_the_known_ones():
    story = Story()
    story.operator("request", target="open_gripper")
    assert refused(story) == "scope"
    assert "set_motion_speed" in story.last(facts.RequestRefused).reason
    assert not story.outstanding(TakeSnapshot)


def test_a_hold_without_a_hold_action_is_refused():
    rules = demo_rules()
    policy = rules.policy.model_copy(update={"hold_action": ""})
    story = Story(type(rules)(rules.cell, rules.catalogue, policy))
    story.operator("hold")
    assert refused(story) == "scope"


def test_a_request_whose_set_points_cannot_be_read_is_refused():
    story = Story()
    story.operator("request", target="clean_pads")
    story.snapshot(failure="server is gone")
    assert refused(story) == "freshness.snapshot"
    assert not story.state.requests


def test_a_request_whose_action_left_the_catalogue_meanwhile_is_refused():
    story = Story()
    story.operator("request", target="clean_pads")
    rest = tuple(a.model_copy(update={"exclusive_with": ()}) for a in story.rules.catalogue.actions
                 if a.name != "clean_pads")  # fmt: skip
    story.rules = type(story.rules)(story.rules.cell, type(story.rules.catalogue)(actions=rest), story.rules.policy)
    story.snapshot()
    assert refused(story) == "scope"


def test_a_request_joins_the_open_incident_of_its_asset():
    story = Story()
    story.anomaly()
    story.operator("request", target="clean_pads")
    story.snapshot("r0")
    (incident_id,) = story.state.incidents
    assert story.last(facts.PlanProposed).incident_id == incident_id


@pytest.mark.parametrize("args", [{}, {"grip_force_n": 30.0, "also": 1.0}, {"force": 30.0}])
def test_a_request_with_the_wrong_arguments_is_refused(args):
    story = Story()
    story.operator("request", target="set_grip_force", args=args)
    story.snapshot()
    assert "arguments" in story.refusals
    assert story.last(facts.PlanDropped)


def test_a_persons_own_request_outlives_the_episodes():
    """Was: when the episodes of its asset cleared, a request that waited for approval was dropped."""
    story = Story()
    story.anomaly()
    story.answer()
    story.operator("request", target="clean_pads")
    story.snapshot("r0")
    assert story.phases == ["awaiting_approval"]
    story.clears()
    assert story.phases == ["awaiting_approval"]


def test_resolving_what_is_not_unresolved_is_refused():
    story = Story().slip()
    story.operator("resolve", target=story.one("verifying"))
    assert refused(story) == "resolve.target"


def test_a_note_is_kept_and_nothing_follows():
    story = Story()
    before = len(story.facts)
    story.operator("note", target="anything", reason="oil was changed")
    assert story.types(before) == ["operator.requested"]


def test_the_time_to_decide_is_a_wake_up_that_goes_with_the_decision():
    story = Story().grip_proposed()
    assert [w.wake_id.split("|")[0] for w in story.outstanding(WakeAt)][-1] == "decide_by"
    story.approve()
    assert not [w for w in story.outstanding(WakeAt) if w.wake_id.startswith("decide_by")]


def test_a_request_that_is_called_like_a_plan_in_work_leaves_that_plan_and_its_command_alone():
    """Was: the request's id became the plan's, and the command on its way vanished from sight."""
    story = Story()
    story.anomaly()
    story.answer(("set_motion_speed", {"motion_speed_pct": 50.0}))
    story.snapshot()
    on_its_way = story.one("intended")
    plan_id = story.state.commands[on_its_way].command.plan_id
    story.operator("request", plan_id, target="set_conveyor_speed", args={"conveyor_speed_pct": 60.0})
    story.snapshot(plan_id)
    assert story.state.commands[on_its_way].phase == "intended"
    asked = story.last(facts.PlanProposed)
    assert (asked.request_id, asked.plan_id == plan_id) == (plan_id, False)


def test_the_same_request_id_at_another_time_is_another_command():
    ids = []
    for later_s in (0.0, 60.0):
        story = Story()
        story.later(later_s)
        story.operator("hold", "r1")
        story.snapshot("r1")
        ids.append(story.last(facts.PlanProposed).commands[0].command_id)
    assert ids[0] != ids[1]


def test_a_hold_is_the_cells_own_hold_action():
    own = ({"cell": "cell1", "hold_action": "clean_pads"},)
    story = Story(with_policy(demo_rules(), cells=own))
    story.operator("hold")
    story.snapshot()
    assert story.last(facts.PlanProposed).commands[0].action == "clean_pads"
