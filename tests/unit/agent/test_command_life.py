"""The life of one command: sent once, asked when nobody answered, proven or not."""

import pytest

from agent.effects import Dispatch, QueryCommand, ReadBack, Rebaseline, TakeSnapshot, VerifyEffect, WakeAt
from agent.incident import ON_ITS_WAY
from schemas import facts
from schemas.outcomes import NotSent
from tests.support.builders import ENABLED, SECOND
from tests.support.demo import demo_rules, with_policy
from tests.support.story import DONE, FORGOTTEN, NEVER_SEEN, NO_ANSWER, NOT_SENT, REJECTED, RUNNING, Story

SPEED_50 = ("set_motion_speed", {"motion_speed_pct": 50.0})
CONVEYOR_60 = ("set_conveyor_speed", {"conveyor_speed_pct": 60.0})


def intended(story: Story | None = None) -> Story:
    """A reflex that is intended and on its way."""
    story = story or Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.snapshot()
    return story


def test_an_intent_is_recorded_before_it_is_wished():
    story = intended()
    fact, wish = story.last(facts.CommandIntended), story.outstanding(Dispatch)[0]
    assert (fact.command, fact.command_sha256, fact.attempt) == (wish.command, wish.sha256, wish.attempt)
    assert story.facts[-1] == fact


def test_no_answer_is_asked_for_and_never_sent_again():
    story = intended()
    story.sent(NO_ANSWER)
    assert story.phases == ["querying"]
    assert not story.outstanding(Dispatch)
    assert len(story.outstanding(QueryCommand)) == 1


@pytest.mark.parametrize("first", [NO_ANSWER, RUNNING])
def test_a_command_that_still_runs_is_asked_for_again_after_a_pause(first):
    story = intended()
    story.sent(first)
    if first == NO_ANSWER:
        story.queried(RUNNING)
    assert story.phases == ["query_pause"]
    story.wake("query")
    story.queried(DONE)
    assert story.phases == ["reading_back"]
    assert len(story.of(facts.CommandIntended)) == 1


def test_a_command_never_seen_gets_a_fresh_snapshot_and_a_second_attempt_under_the_same_id():
    story = intended()
    story.sent(NO_ANSWER)
    story.queried(NEVER_SEEN)
    story.later(3).snapshot()
    first, second = story.of(facts.CommandIntended)
    assert (first.command, first.command_sha256) == (second.command, second.command_sha256)
    assert (first.attempt, second.attempt) == (1, 2)
    story.sent()
    story.read_back()
    assert story.phases == ["verifying"]


def test_a_second_attempt_is_judged_anew_by_the_interlocks():
    story = intended()
    story.sent(NO_ANSWER)
    story.queried(NEVER_SEEN)
    story.plant["estop_ok"] = 0.0
    story.snapshot()
    assert story.refusals == ["interlock.permissives"]
    assert not story.outstanding(Dispatch)


def test_a_command_never_seen_three_times_has_failed():
    """Three, so that two crashes between intent and send lose nothing."""
    story = intended()
    for _ in range(3):
        story.sent(NO_ANSWER)
        story.queried(NEVER_SEEN)
        if story.outstanding(TakeSnapshot):
            story.snapshot()
    assert story.last(facts.CommandFailed).reason == "the robot never saw it, 3 times"
    assert len(story.of(facts.CommandIntended)) == 3
    assert not story.state.commands


def test_never_seen_in_answer_to_a_send_is_no_fence_and_is_asked_about():
    """Was: the command stayed intended for ever, or failed at its second attempt while it may have been on its way."""
    story = intended()
    story.sent(NEVER_SEEN)
    assert story.phases == ["querying"]
    story.queried(NEVER_SEEN)
    story.snapshot()
    story.sent(NEVER_SEEN)
    assert story.phases == ["querying"]
    assert not story.of(facts.CommandFailed)


def test_a_forgotten_command_blocks_its_robot_until_a_person_has_looked():
    story = intended()
    story.sent(NO_ANSWER)
    story.queried(FORGOTTEN)
    assert story.phases == ["unresolved"]
    command_id = story.one("unresolved")
    story.operator("request", target="set_grip_force", args={"grip_force_n": 20.0})
    story.snapshot("r0")
    assert story.refusals == ["robot.busy"]
    assert "unresolved" in story.last(facts.PlanDropped).reason
    story.operator("resolve", target=command_id, reason="it did move")
    assert story.last(facts.CommandFailed).reason == "looked at by anna: it did move"
    story.operator("request", target="set_grip_force", args={"grip_force_n": 20.0})
    story.snapshot("r2")
    assert story.last(facts.GuardJudged).decision == "needs_approval"


def test_a_query_that_could_not_be_put_proves_nothing():
    """Was: `not_sent` of a query made the command fail, and freed its robot, though its send may have arrived."""
    story = intended()
    story.sent(NO_ANSWER)
    story.queried(NotSent("the session is down"))
    assert not story.of(facts.CommandFailed)
    assert story.phases == ["query_pause"]


@pytest.mark.parametrize("answer", [NO_ANSWER, NOT_SENT, RUNNING])
def test_asking_has_a_bound_and_then_nobody_can_tell(answer):
    """Was: a robot that says `running` was asked for ever."""
    story = intended(Story(with_policy(demo_rules(), query_retries_max=5)))
    story.sent(NO_ANSWER)
    asked = 0
    while not story.of(facts.CommandUnresolved):
        story.queried(answer)
        asked += 1
        assert asked < 7
        if not story.of(facts.CommandUnresolved):
            story.wake("query")
    assert story.phases == ["unresolved"]


def test_a_rejected_command_fails_and_its_plan_is_dropped_with_the_robots_words():
    story = intended()
    story.sent(REJECTED)
    assert story.last(facts.CommandFailed).reason == "the robot rejected it: code 7, guard door open"
    assert story.last(facts.PlanDropped).reason == story.last(facts.CommandFailed).reason


def test_a_command_that_did_not_leave_fails():
    story = intended()
    story.sent(NOT_SENT)
    assert story.last(facts.CommandFailed).reason == "not sent: session is down"
    assert not story.state.plans


@pytest.mark.parametrize("value", [100.0, 50.000_002])
def test_a_set_point_that_does_not_read_as_asked_is_a_failure(value):
    story = intended()
    story.sent()
    story.read_back(motion_speed_sp_pct=value)
    assert story.last(facts.CommandFailed).reason.startswith("the robot said done, but motion_speed_sp_pct reads")
    assert not story.of(facts.CommandCompleted)


def test_a_set_point_within_the_tolerance_is_as_asked():
    story = intended()
    story.sent()
    story.read_back(motion_speed_sp_pct=50.000_000_5)
    assert story.phases == ["verifying"]


def read_back_fails(story: Story) -> None:
    command_id = story.one("reading_back")
    story.feed(facts.ReadbackTaken(at=story.at, command_id=command_id, readings={}, failure="server is gone"))


@pytest.mark.parametrize("fails", [read_back_fails, lambda story: story.read_back(motion_speed_sp_pct=None)],
                         ids=["no connection", "no good value"])  # fmt: skip
def test_a_set_point_that_cannot_be_read_says_nothing_and_is_read_again(fails):
    """Was: `command.failed`, it certainly was not done, of a command of which the robot had said done."""
    story = intended()
    story.sent()
    fails(story)
    assert story.phases == ["reading_back"]
    assert [e for e in story.effects if isinstance(e, ReadBack)][1:] == story.outstanding(ReadBack)
    story.read_back()
    assert story.phases == ["verifying"]


def test_reading_back_has_a_bound_and_then_nobody_can_tell():
    story = intended(Story(with_policy(demo_rules(), query_retries_max=3)))
    story.sent()
    for _ in range(3):
        assert story.phases == ["reading_back"]
        read_back_fails(story)
    read_back_fails(story)
    assert story.phases == ["unresolved"]
    assert story.last(facts.CommandUnresolved).reason == "the robot said done, but server is gone"


def test_a_done_command_whose_action_left_the_catalogue_needs_a_person():
    """Was: it stayed in `reading_back` and blocked its robot without a way out."""
    story = intended()
    story.sent()
    command_id = story.one("reading_back")
    rest = tuple(a for a in story.rules.catalogue.actions if a.name != "set_motion_speed")
    story.rules = type(story.rules)(story.rules.cell, type(story.rules.catalogue)(actions=rest), story.rules.policy)
    story.feed(facts.ReadbackTaken(at=story.at, command_id=command_id, readings={}))
    assert story.last(facts.CommandUnresolved).reason == "'set_motion_speed' is no longer in the catalogue"


def test_done_wishes_for_its_proof_and_tells_the_detectors_what_moved():
    story = Story().slip()
    verify, rebaseline = story.outstanding(VerifyEffect)[0], story.outstanding(Rebaseline)[0]
    assert (verify.action, verify.since_at) == ("set_motion_speed", story.at)
    assert rebaseline.tags == ("lift_current_a", "lift_peak_a", "cycle_time_s")
    story.rebaselined()
    assert not story.outstanding(Rebaseline)
    story.verified()
    assert not story.state.commands


def test_the_debt_of_telling_the_detectors_outlives_the_plan():
    story = Story().slip()
    story.verified()
    assert story.phases == ["ended"]
    story.rebaselined()
    assert not story.state.commands


def test_a_second_word_on_an_effect_does_not_end_a_later_step():
    """Was: `effect.verified` of the first command ended whatever step its plan was at."""
    story = Story()
    story.anomaly()
    story.answer()
    story.answer(SPEED_50, ("set_grip_force", {"grip_force_n": 20.0}))
    story.done()
    first = story.one("verifying")
    verified = facts.EffectVerified(at=story.at, command_id=first, rows=3, worst=1.0)
    story.feed(verified)
    assert story.waiting_for_approval().command.action == "set_grip_force"
    story.feed(verified)
    story.feed(facts.EffectAbsent(at=story.at, command_id=first, reason="late"))
    assert story.waiting_for_approval().command.action == "set_grip_force"
    assert not story.of(facts.PlanCompleted)[1:]


def test_the_second_step_starts_from_the_set_point_that_the_first_leaves():
    story = Story()
    story.anomaly()
    story.answer()
    story.answer(("set_grip_force", {"grip_force_n": 20.0}), ("set_grip_force", {"grip_force_n": 15.0}))
    first, second = story.last(facts.PlanProposed).commands
    assert (first.from_values, second.from_values) == ({"grip_force_n": 25.0}, {"grip_force_n": 20.0})


# ---------------------------------------------------------------- a busy robot


def busy(phase: str) -> Story:
    """A reflex in `phase`, and an operator's command for the same robot whose turn to be sent has come."""
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.operator("request", target="set_grip_force", args={"grip_force_n": 20.0})
    story.snapshot("r0")
    story.approve()
    reflex = next(w.subject_id for w in story.wished(TakeSnapshot) if w.action == "set_motion_speed")
    story.snapshot(reflex)
    match phase:
        case "querying":
            story.sent(NO_ANSWER)
        case "query_pause":
            story.sent(RUNNING)
        case "reading_back":
            story.sent()
        case "unresolved":
            story.sent(FORGOTTEN)
    assert story.state.commands[reflex].phase == phase
    return story


@pytest.mark.parametrize("phase", sorted(ON_ITS_WAY))
def test_a_command_waits_while_its_robot_is_busy_with_another(phase):
    story = busy(phase)
    story.snapshot()
    judged = story.last(facts.GuardJudged)
    assert (story.refusals, judged.retry, judged.decision) == (["robot.busy"], True, "refused")
    assert "waiting" in story.phases
    assert not [w for w in story.outstanding(Dispatch) if w.command.action == "set_grip_force"]


def test_a_busy_robot_is_tried_again_and_then_the_command_is_sent():
    story = busy("intended")
    story.snapshot()
    story.sent()
    story.read_back()
    story.wake("retry")
    story.snapshot()
    assert story.last(facts.CommandIntended).command.action == "set_grip_force"


def test_waiting_for_a_busy_robot_has_a_bound():
    story = busy("unresolved")
    for _ in range(story.rules.policy.retries_max):
        story.snapshot()
        story.wake("retry")
    story.snapshot()
    assert story.last(facts.GuardJudged).retry is False
    assert story.last(facts.PlanDropped).reason.startswith("robot.busy")
    assert story.phases == ["unresolved"]


def test_a_robot_busy_at_the_proposal_defers_and_the_hold_is_not_given_up():
    """Was: a proposal whose robot was busy that moment was dropped, though recorded as to be tried again."""
    story = Story()
    story.operator("hold")
    story.snapshot()
    story.snapshot()
    story.anomaly()
    story.answer()
    story.answer(("set_grip_force", {"grip_force_n": 40.0}))
    story.operator("hold")
    story.snapshot("r1")
    judged = story.last(facts.GuardJudged)
    assert {v.rule: v.result for v in judged.verdicts}["robot.busy"] == "deferred"
    assert judged.decision == "permitted"
    story.snapshot()
    assert (story.refusals, story.last(facts.GuardJudged).retry) == (["robot.busy"], True)


def test_an_unresolved_command_refuses_the_proposal_at_once():
    story = busy("unresolved")
    story.operator("request", target="clean_pads")
    story.snapshot("r2")
    assert "robot.busy" in story.refusals
    assert story.last(facts.GuardJudged).retry is False


# ---------------------------------------------------------------- late, twice, out of order


def test_the_same_answer_twice_changes_nothing():
    story = intended()
    command_id = story.one("intended")
    story.sent()
    before = len(story.facts)
    story.feed(story.answered(command_id, "send", DONE))
    assert story.types(before) == ["command.answered"]
    assert story.phases == ["reading_back"]


def test_an_answer_to_a_query_that_nobody_waits_for_changes_nothing():
    story = intended()
    command_id = story.one("intended")
    story.feed(story.answered(command_id, "query", NEVER_SEEN))
    assert story.phases == ["intended"]
    assert not story.outstanding(TakeSnapshot)


def test_a_late_answer_of_the_send_counts_while_the_robot_is_asked():
    story = intended()
    command_id = story.one("intended")
    story.sent(NO_ANSWER)
    story.feed(story.answered(command_id, "send", DONE))
    assert story.phases == ["reading_back"]


def test_a_second_snapshot_does_not_intend_again():
    story = intended()
    story.snapshot(story.one("intended"))
    assert len(story.of(facts.CommandIntended)) == 1


def test_a_snapshot_that_failed_refuses_and_says_why():
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.snapshot(failure="the session is down")
    assert story.last(facts.PlanDropped).reason == "the session is down"
    assert "freshness.snapshot" in story.refusals
    assert not story.of(facts.CommandIntended)


def test_a_wake_up_twice_moves_on_once():
    story = intended()
    story.sent(RUNNING)
    wish = story.outstanding(WakeAt)[-1]
    story.wake("query")
    story.queried(RUNNING)
    story.feed(facts.TimeReached(at=story.at, wake_id=wish.wake_id))
    assert story.phases == ["query_pause"]


@pytest.mark.parametrize("tag", sorted(ENABLED))
def test_nothing_is_intended_while_a_condition_of_the_cell_is_lost(tag):
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.plant[tag] = 0.0
    story.snapshot()
    assert story.last(facts.GuardJudged).decision == "refused"
    assert not story.of(facts.CommandIntended)


def test_an_old_snapshot_is_refused():
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.snapshot(read_at=story.at - 11 * SECOND)
    assert story.refusals == ["freshness.snapshot"]


def test_commands_copy_their_arguments_in_the_catalogues_order():
    """Was: in the order in which the model had written them."""
    rules = demo_rules()
    two = rules.catalogue.action("set_grip_force").model_dump()
    speed = rules.catalogue.action("set_motion_speed").args[0].model_dump()
    both = type(rules.catalogue).model_validate(
        {"actions": [{**two, "exclusive_with": (), "effect_direction": "none", "args": [*two["args"], speed]}]}
    )
    policy = type(rules.policy)()
    story = Story(type(rules)(rules.cell, both, policy))
    story.anomaly()
    story.answer()
    story.answer(("set_grip_force", {"motion_speed_pct": 60.0, "grip_force_n": 20.0}))
    assert list(story.last(facts.PlanProposed).commands[0].args) == ["grip_force_n", "motion_speed_pct"]
