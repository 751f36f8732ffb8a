"""Reaching a person: at least once, with doubled pauses, and not for ever."""

from agent.effects import Notify, WakeAt
from agent.notices import NOTIFY_ATTEMPTS_MAX
from schemas import facts
from tests.support.builders import SECOND
from tests.support.story import Story

NOTICE = "anomaly:ep1"


def sent(story: Story, *, delivered: bool) -> None:
    story.feed(
        facts.NotificationSent(at=story.at, notification_id=NOTICE, notifier="log, command", delivered=delivered)
    )


def pauses(story: Story) -> list[float]:
    return [(w.at - story.at) / SECOND for w in story.outstanding(WakeAt) if w.wake_id.startswith("renotify|")]


def wished(story: Story) -> list[str]:
    return [n.notification_id for n in story.outstanding(Notify)]


def test_a_notice_that_was_delivered_is_told_once():
    story = Story()
    story.anomaly()
    assert wished(story) == [NOTICE]
    sent(story, delivered=True)
    assert (wished(story), pauses(story)) == ([], [])


def test_one_that_could_not_be_delivered_is_tried_again_after_a_pause_that_doubles():
    story = Story()
    story.anomaly()
    for pause_s in (10.0, 20.0, 40.0, 80.0, 160.0):
        sent(story, delivered=False)
        assert (wished(story), pauses(story)) == ([], [pause_s])
        (wake,) = [w for w in story.outstanding(WakeAt) if w.wake_id.startswith("renotify|")]
        story.later(pause_s)
        story.feed(facts.TimeReached(at=story.at, wake_id=wake.wake_id))
        assert wished(story) == [NOTICE]


def test_it_is_given_up_after_so_many_attempts_and_every_one_is_on_record():
    story = Story()
    story.anomaly()
    for _ in range(NOTIFY_ATTEMPTS_MAX):
        assert NOTICE in story.state.notifications
        sent(story, delivered=False)
    assert NOTICE not in story.state.notifications


def test_a_stale_wake_up_of_a_notice_that_is_gone_changes_nothing():
    story = Story()
    before = story.state
    story.feed(facts.TimeReached(at=story.at, wake_id=f"renotify|{NOTICE}|5"))
    assert story.state.notifications == before.notifications
