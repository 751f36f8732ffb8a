"""A restart in every phase of a command: what left is asked for, what did not leave is judged anew."""

import pytest

from agent.effects import (
    Dispatch,
    Notify,
    QueryCommand,
    ReadBack,
    TakeSnapshot,
    VerifyEffect,
    WakeAt,
    outstanding,
)  # fmt: skip
from schemas import facts
from tests.support.builders import started
from tests.support.story import DONE, FORGOTTEN, NEVER_SEEN, NO_ANSWER, RUNNING, Story

GRIP_40 = ("set_grip_force", {"grip_force_n": 40.0})

SPEED_50 = ("set_motion_speed", {"motion_speed_pct": 50.0})


def in_phase(phase: str) -> Story:
    """A story whose one command is in `phase`."""
    story = Story()
    if phase == "awaiting_approval":
        return story.grip_proposed()
    story.anomaly()
    story.answer(SPEED_50)
    if phase == "awaiting_snapshot":
        return story
    story.snapshot()
    match phase:
        case "querying":
            story.sent(NO_ANSWER)
        case "query_pause":
            story.sent(RUNNING)
        case "unresolved":
            story.sent(FORGOTTEN)
        case "reading_back" | "verifying":
            story.sent(DONE)
    if phase == "verifying":
        story.read_back()
    return story


def restart(story: Story) -> Story:
    story.feed(started(story.later(5).at, epoch=2))
    return story


@pytest.mark.parametrize("phase", ["intended", "querying", "query_pause"])
def test_a_command_that_may_have_left_is_asked_for_and_never_sent(phase):
    story = in_phase(phase)
    command = story.of(facts.CommandIntended)[0].command
    sent_before = len(story.wished(Dispatch))
    restart(story)
    assert [q.command for q in story.outstanding(QueryCommand)] == [command]
    assert not story.outstanding(Dispatch)
    assert len(story.wished(Dispatch)) == sent_before
    assert story.phases == ["querying"]


@pytest.mark.parametrize(
    ("phase", "wish"),
    [
        ("awaiting_approval", WakeAt),
        ("awaiting_snapshot", TakeSnapshot),
        ("reading_back", ReadBack),
        ("verifying", VerifyEffect),
        ("unresolved", Notify),
    ],
)
def test_any_other_phase_goes_on_where_it_was(phase, wish):
    story = in_phase(phase)
    before = story.outstanding(wish)
    restart(story)
    assert story.outstanding(wish) == before != []
    assert story.phases == [phase]
    assert not story.outstanding(Dispatch)


def test_a_command_never_seen_is_not_tried_again_in_observe():
    """Was: a snapshot was wished for, in a mode that has nothing to take it with."""
    story = in_phase("intended")
    story.feed(started(story.at, "observe", 2))
    (command_id,) = story.state.commands
    story.feed(facts.CommandAnswered(at=story.at, command_id=command_id, by="query", outcome=NEVER_SEEN))
    assert not story.outstanding(TakeSnapshot)
    assert not story.outstanding(Dispatch)


def test_two_restarts_in_a_row_still_only_ask():
    story = restart(restart(in_phase("intended")))
    assert len(story.outstanding(QueryCommand)) == 1
    assert len(story.wished(Dispatch)) == 1
    story.queried(DONE)
    assert story.phases == ["reading_back"]


@pytest.mark.parametrize(
    "phase", ["awaiting_approval", "awaiting_snapshot", "intended", "querying", "query_pause", "reading_back",
              "verifying", "unresolved"],
)  # fmt: skip
def test_the_wishes_after_a_restart_are_those_of_the_folded_log(phase):
    story = restart(in_phase(phase))
    policy = story.rules.policy
    assert outstanding(story.folded, policy) == outstanding(story.state, policy)


def test_a_restart_raises_the_fence_and_keeps_the_switch():
    story = Story()
    story.operator("off")
    restart(story)
    assert (story.state.epoch, story.state.automation_on, story.state.mode) == (2, False, "act")
    story.feed(facts.CellTaken(at=story.at, epoch=3, reason="outcome unknown"))
    assert story.state.epoch == 3


def test_what_was_approved_before_a_long_outage_is_not_sent_after_it():
    story = Story().slip()
    story.rebaselined()
    story.answer(GRIP_40)
    story.approve()
    command_id = story.one("awaiting_snapshot")
    story.later(3 * 86_400)
    story.feed(started(story.at, "act", story.state.epoch + 1))
    story.snapshot()
    assert command_id not in [f.command.command_id for f in story.facts if isinstance(f, facts.CommandIntended)]
    assert "freshness.decision" in story.last(facts.PlanDropped).reason


def test_what_was_asked_for_before_a_long_outage_is_refused_after_it():
    story = Story()
    story.operator("hold", "r1")
    story.later(86_400)
    story.feed(started(story.at, "act", story.state.epoch + 1))
    story.snapshot("r1")
    assert story.last(facts.RequestRefused).rule == "freshness.decision"
    assert not any(isinstance(f, facts.CommandIntended) for f in story.facts)


@pytest.mark.parametrize("phase", ["intended", "querying", "query_pause", "reading_back"])
def test_a_restart_in_mode_observe_leaves_what_may_have_left_to_a_person(phase):
    story = in_phase(phase)
    story.feed(started(story.later(5).at, "observe", 2))
    assert story.last(facts.CommandUnresolved).reason == "mode is observe: nobody asks the robot"
    assert [c.phase for c in story.state.commands.values()] == ["unresolved"]
    assert not story.outstanding(QueryCommand)
    assert not story.outstanding(ReadBack)
