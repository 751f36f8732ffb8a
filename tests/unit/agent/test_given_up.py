"""A command that was intended, and that the robot never saw, gets an end of its own when it is given up."""

import pytest

from schemas import facts
from tests.support.builders import started
from tests.support.story import NEVER_SEEN, Story

SPEED_50 = ("set_motion_speed", {"motion_speed_pct": 50.0})
SOURCE = "opcua:cell1"


def never_seen() -> Story:
    """Intended, the agent restarted, and the robot says that it never saw it: a fresh snapshot is wished for."""
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.snapshot()
    story.feed(started(story.later(5).at, epoch=2))
    story.queried(NEVER_SEEN)
    assert story.phases == ["awaiting_snapshot"]
    return story


def alive(story: Story, now: bool) -> None:
    story.feed(facts.SourceChanged(at=story.at, source=SOURCE, alive=now))


def test_refused_at_its_second_judgement_it_has_failed():
    """Was: only the plan was dropped, and the log never said what became of the intended command."""
    story = never_seen()
    story.snapshot(off_file=True)
    (failed,) = story.of(facts.CommandFailed)
    assert "never saw it" in failed.reason
    assert "off_switch" in failed.reason
    assert len(story.of(facts.PlanDropped)) == 1


def test_switched_off_meanwhile_it_has_failed():
    story = never_seen()
    story.operator("off")
    assert [f.command_id for f in story.of(facts.CommandFailed)] == [
        story.of(facts.CommandIntended)[0].command.command_id
    ]


def test_a_command_that_was_never_intended_has_no_end():
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.operator("off")
    assert story.of(facts.CommandFailed) == []


def test_a_lost_source_is_waited_for():
    """Was: dropped. Right after a restart the robots' session may be up before the collector's."""
    story = never_seen()
    alive(story, False)
    story.snapshot()
    assert story.refusals == ["freshness.source"]
    assert story.phases == ["waiting"]
    alive(story, True)
    story.wake("retry")
    story.snapshot()
    assert story.last(facts.CommandIntended).attempt == 2


def test_a_lost_source_is_not_waited_for_for_ever():
    story = never_seen()
    alive(story, False)
    for _ in range(story.rules.policy.retries_max):
        story.snapshot()
        story.wake("retry")
    story.snapshot()
    assert story.phases == []
    assert len(story.of(facts.CommandFailed)) == 1


@pytest.mark.parametrize("back", [False, True])
def test_the_way_back_to_safe_does_not_wait_for_a_lost_source(back):
    """A person is called at once."""
    story = Story()
    story.slip()
    story.absent()
    alive(story, back)
    story.snapshot()
    assert len(story.of(facts.IncidentEscalated)) == (not back)
