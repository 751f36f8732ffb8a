"""Wishes are a function of the state, and a step's effects are exactly those that it added."""

from agent.cell import CellState
from agent.effects import Effect, outstanding
from schemas import facts
from tests.support.demo import CELL, demo_rules
from tests.support.story import NEVER_SEEN, NO_ANSWER, RUNNING, Story

SPEED_50 = ("set_motion_speed", {"motion_speed_pct": 50.0})


class Watched(Story):
    """A story that compares each step's effects with the wishes before and after."""

    def feed(self, fact: facts.AnyFact):
        policy = self.rules.policy
        before = outstanding(self.state, policy)
        stepped = super().feed(fact)
        after = outstanding(stepped.state, policy)
        assert stepped.effects == tuple(effect for key, effect in after.items() if key not in before)
        kept = {key for key in after if key in before}
        assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
        return stepped


def whole(story: Story) -> Story:
    """A story that touches every kind of wish."""
    story.anomaly()
    story.answer(SPEED_50)
    story.snapshot()
    story.sent(NO_ANSWER)
    story.queried(RUNNING)
    story.wake("query")
    story.queried(NEVER_SEEN)
    story.snapshot()
    story.sent()
    story.read_back()
    story.answer(("set_grip_force", {"grip_force_n": 40.0}))
    story.approve()
    story.operator("request", target="clean_pads")
    story.snapshot("r1")
    story.rebaselined()
    story.verified()
    story.snapshot()
    story.sent()
    story.read_back()
    story.verified()
    story.clears()
    return story


def test_a_steps_effects_are_exactly_the_added_wishes():
    whole(Watched())


def test_no_wish_is_ever_made_twice_under_one_key_with_another_content():
    story = Story()
    wishes: dict[str, Effect] = {}
    original = story.feed

    def feed(fact: facts.AnyFact):
        stepped = original(fact)
        for key, effect in outstanding(stepped.state, story.rules.policy).items():
            assert wishes.setdefault(key, effect) == effect
        return stepped

    story.feed = feed
    whole(story)
    assert len({key.split("|")[0] for key in wishes}) == 9


def test_no_two_effects_of_a_story_are_the_same():
    story = whole(Story())
    assert len(story.effects) == len(set(map(repr, story.effects)))


def test_an_empty_cell_wishes_for_nothing():
    assert outstanding(CellState(CELL), demo_rules().policy) == {}


def test_a_delivered_notification_is_wished_for_no_more():
    story = Story()
    story.anomaly()
    story.feed(
        facts.NotificationSent(at=story.at, notification_id="anomaly:ep1", notifier="log", delivered=True, detail="")
    )
    assert "notify|anomaly:ep1" not in outstanding(story.state, story.rules.policy)
