"""Episodes, incidents and questions: what belongs together, who is asked, and when it ends."""

from dataclasses import replace

import msgspec
import pytest

from agent.cell import EPISODES_REMEMBERED, HISTORY_US, REQUESTS_REMEMBERED, apply
from agent.effects import AskReasoner, Notify, WakeAt
from schemas import facts
from tests.support.builders import detected, evidence
from tests.support.demo import demo_rules, with_policy
from tests.support.story import FORGOTTEN, Story

SPEED_50 = ("set_motion_speed", {"motion_speed_pct": 50.0})


def tiers(story: Story) -> list[str]:
    return [ask.request.tier for ask in story.wished(AskReasoner)]


def test_a_duplicate_anomaly_opens_nothing_while_its_incident_is_open():
    story = Story()
    duplicate = detected(story.at)
    story.feed(duplicate)
    before = len(story.facts)
    story.feed(duplicate)
    assert story.types(before) == ["anomaly.detected"]


def test_a_duplicate_anomaly_opens_nothing_and_calls_nobody_after_its_incident_closed():
    """Was: a person was notified of the closed episode again."""
    story = Story()
    duplicate = detected(story.at)
    story.feed(duplicate)
    story.answer()
    story.answer()
    story.clears()
    story.feed(facts.NotificationSent(
        at=story.at, notification_id="anomaly:ep1", notifier="log", delivered=True
    ))  # fmt: skip
    story.wake("quiet")
    before = len(story.facts)
    story.feed(duplicate)
    assert story.types(before) == ["anomaly.detected"]
    assert not story.state.episodes
    assert not [n for n in story.outstanding(Notify) if n.notification_id == "anomaly:ep1"]


@pytest.mark.parametrize(
    ("later_s", "tag", "joins"),
    [(5.0, "drive_current_a", True), (5.000_001, "drive_current_a", False), (600.0, "lift_current_a", True)],
)
def test_an_episode_joins_by_nearness_or_asset(later_s, tag, joins):
    story = Story()
    story.anomaly()
    story.later(later_s).anomaly(tag, "ep2")
    assert bool(story.of(facts.IncidentJoined)) is joins
    assert len(story.state.incidents) == (1 if joins else 2)


def test_a_finding_about_the_measurement_never_joins_one_about_the_process():
    story = Story()
    story.anomaly()
    story.anomaly(episode="ep2", detector="stale")
    assert sorted(i.kind for i in story.state.incidents.values()) == ["data_quality", "process"]


def test_an_unusable_answer_is_recorded_and_the_next_tier_is_asked():
    story = Story()
    story.anomaly()
    story.answer_text("slow down, please")
    assert story.last(facts.PlanUnusable).rule == "answer.json"
    assert tiers(story) == ["reflex", "proposal"]


def test_a_reasoner_that_fails_is_recorded_and_the_next_tier_is_asked():
    story = Story()
    story.anomaly()
    request = story.outstanding(AskReasoner)[0].request
    story.feed(facts.ReasonerFailed(at=story.at, request_id=request.request_id, reasoner="x", reason="down"))
    assert story.last(facts.PlanUnusable).rule == "reasoner.failed"
    story.feed(facts.ReasonerFailed(at=story.at, request_id="unknown", reasoner="x", reason="down"))
    assert tiers(story) == ["reflex", "proposal"]
    assert len(story.of(facts.PlanUnusable)) == 1


def test_nobody_waits_beyond_the_deadline_and_the_late_answer_is_dropped():
    story = Story()
    story.anomaly()
    request = story.outstanding(AskReasoner)[0].request
    story.wake("deadline")
    assert story.last(facts.PlanUnusable).rule == "reasoner.deadline"
    story.answer_text('{"findings": []}', request.request_id)
    assert story.last(facts.AnswerDropped).request_id == request.request_id
    assert not story.of(facts.PlanProposed)


def test_an_answer_after_all_episodes_cleared_is_dropped():
    """Was: a reflex was sent although nothing was wrong any more."""
    story = Story()
    story.anomaly()
    story.clears()
    story.answer(SPEED_50)
    assert story.last(facts.AnswerDropped).reason == "all episodes of the incident cleared"
    assert not story.of(facts.PlanProposed)


def test_an_answer_after_its_incident_closed_is_dropped():
    """Was: nothing was recorded about it."""
    story = Story(with_policy(demo_rules(), quiet_s=0.1))
    story.anomaly()
    story.clears()
    story.wake("quiet")
    story.answer(SPEED_50)
    assert story.last(facts.AnswerDropped)


def test_a_plan_that_waits_for_a_person_is_pointless_once_all_episodes_cleared():
    story = Story().grip_proposed()
    story.clears()
    assert story.last(facts.PlanDropped).reason == "all episodes of the incident cleared"


def test_a_plan_waits_on_while_another_episode_is_open():
    story = Story()
    story.anomaly()
    story.anomaly("lift_current_a", "ep2")
    story.answer()
    story.answer(("set_grip_force", {"grip_force_n": 40.0}))
    story.clears("ep1")
    assert story.phases == ["awaiting_approval"]


def test_an_update_of_an_episode_that_cleared_asks_nobody():
    """Was: a question without any slot was put."""
    story = Story()
    story.anomaly()
    story.answer()
    story.answer()
    story.clears()
    story.goes_on()
    assert len(story.of(facts.ReasonerAsked)) == 2


def test_an_episode_that_goes_on_is_asked_about_again_with_fresh_evidence():
    story = Story()
    story.anomaly()
    story.answer()
    story.answer(("set_grip_force", {"grip_force_n": 400.0}))
    story.later(10).goes_on()
    asked = story.last(facts.ReasonerAsked).request
    assert (asked.tier, asked.evidence.row_at) == ("proposal", story.at)


def test_the_number_of_plans_has_a_bound_and_then_a_person_is_called_once():
    story = Story()
    story.anomaly()
    story.answer()
    for _ in range(story.rules.policy.plans_per_incident):
        story.answer(("set_grip_force", {"grip_force_n": 400.0}))
        story.later(10).goes_on()
    for _ in range(3):
        story.later(10).goes_on()
    assert tiers(story).count("proposal") == story.rules.policy.plans_per_incident
    assert [f.reason for f in story.of(facts.IncidentEscalated)] == ["3 plans did not mend it"]


def test_a_reasoner_that_knows_nothing_calls_a_person():
    story = Story()
    story.anomaly()
    story.answer()
    assert not story.of(facts.IncidentEscalated)
    story.answer()
    assert story.last(facts.IncidentEscalated).reason == "the reasoner knows no action for this"


def test_an_action_that_is_in_force_already_is_left_out():
    story = Story()
    story.anomaly()
    story.answer(("set_motion_speed", {"motion_speed_pct": 100.0}))
    assert story.last(facts.PlanProposed).commands == ()
    assert story.of(facts.PlanCompleted)


def test_the_proposal_waits_until_the_reflex_no_longer_needs_the_robot():
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    assert tiers(story) == ["reflex"]
    story.snapshot()
    assert tiers(story) == ["reflex"]
    story.sent()
    story.read_back()
    assert tiers(story) == ["reflex", "proposal"]


def test_an_incident_stays_open_while_a_plan_is_in_work():
    story = Story().slip()
    story.clears()
    assert not [w for w in story.outstanding(WakeAt) if w.wake_id.startswith("quiet")]
    story.verified()
    story.wake("quiet")
    assert story.of(facts.IncidentClosed)


def in_doubt() -> Story:
    """A slip whose reflex nobody can tell about."""
    story = Story()
    story.anomaly()
    story.answer(SPEED_50)
    story.snapshot()
    story.sent(FORGOTTEN)
    return story


def test_nothing_is_proposed_while_nobody_can_tell_and_anew_once_somebody_looked():
    """Was: every plan was refused by the blocked robot until `plans_per_incident` were used up, and none was left."""
    story = in_doubt()
    for _ in range(5):
        story.later(60).goes_on()
    assert tiers(story) == ["reflex"]
    story.operator("resolve", target=story.one("unresolved"), reason="not done")
    assert tiers(story) == ["reflex", "proposal"]
    assert not story.of(facts.IncidentEscalated)


def test_an_incident_stays_open_while_nobody_can_tell_of_its_command():
    """Was: it closed as `cleared`, with a robot still blocked."""
    story = in_doubt()
    story.clears()
    assert not [w for w in story.outstanding(WakeAt) if w.wake_id.startswith("quiet")]
    story.operator("resolve", target=story.one("unresolved"), reason="not done")
    story.wake("quiet")
    assert story.of(facts.IncidentClosed)


def test_a_wake_up_armed_for_an_earlier_quiet_does_not_close():
    """Was: a wake-up that was already in the queue closed the incident right after another episode had cleared."""
    story = Story()
    story.anomaly()
    story.answer()
    story.answer()
    story.clears()
    stale = next(w for w in story.outstanding(WakeAt) if w.wake_id.startswith("quiet"))
    story.later(29).anomaly("lift_current_a", "ep2")
    story.later(0.5).clears("ep2")
    story.later(0.5).feed(facts.TimeReached(at=story.at, wake_id=stale.wake_id))
    assert not story.of(facts.IncidentClosed)
    story.wake("quiet")
    assert story.of(facts.IncidentClosed)


@pytest.mark.parametrize("wake_id", ["", "quiet", "quiet|x", "quiet|x|y|z", "quiet|x|soon", "unknown|x|5", "||"])
def test_a_wake_up_of_no_known_form_changes_nothing(wake_id):
    """Was: a ValueError out of the fold, at every replay of such a log."""
    story = Story()
    before = len(story.facts)
    story.feed(facts.TimeReached(at=story.at, wake_id=wake_id))
    assert story.types(before) == ["time.reached"]


def test_a_lost_source_refuses_until_it_is_back():
    story = Story()
    story.feed(facts.SourceChanged(at=story.at, source="opcua:cell1", alive=False))
    story.anomaly()
    story.answer(SPEED_50)
    assert not story.of(facts.PlanDropped)
    story.snapshot()
    assert story.refusals == ["freshness.source"]
    assert story.last(facts.GuardJudged).retry
    story.feed(facts.SourceChanged(at=story.at, source="opcua:cell1", alive=True))
    story.feed(facts.SourceSilent(at=story.at, source="opcua:cell1", silent_s=10.0))
    assert not story.state.source_alive


def test_slots_carry_no_id_and_follow_the_order_of_onset():
    story = Story()
    story.anomaly()
    story.anomaly("drive_current_a", "ep2")
    story.answer()
    slots = story.outstanding(AskReasoner)[0].request.slots
    assert [(s.name, s.asset, s.tag) for s in slots] == [
        ("E1", "gripper", "part_slip_mm"), ("E2", "drive", "drive_current_a"),
    ]  # fmt: skip


# ---------------------------------------------------------------- memory has bounds


def test_so_many_closed_episodes_are_remembered_and_the_oldest_are_forgotten_but_never_an_open_one():
    story = Story()
    story.anomaly(episode="open")
    remembered = {"open": story.state.incident_of["open"]}
    remembered |= {f"e{number}": "closed" for number in range(EPISODES_REMEMBERED)}
    story.state = story.folded = replace(story.state, incident_of=remembered)
    story.anomaly(episode="fits")
    assert {"open", "e0", "fits"} <= set(story.state.incident_of)
    one_too_many = {"late": "closed", **story.state.incident_of, "later": "closed"}
    story.state = story.folded = replace(story.state, incident_of=one_too_many)
    story.anomaly(episode="one more")
    assert {"late", "e0"}.isdisjoint(story.state.incident_of)
    assert {"open", "e1", "fits", "one more"} <= set(story.state.incident_of)


def test_so_many_requests_are_remembered_and_the_oldest_are_forgotten():
    story = Story()
    for number in range(REQUESTS_REMEMBERED + 1):
        story.operator("note", f"n{number}")
    assert len(story.state.seen_requests) == REQUESTS_REMEMBERED
    assert (story.state.seen_requests[0], story.state.seen_requests[-1]) == ("n1", f"n{REQUESTS_REMEMBERED}")


def test_budgets_remember_an_hour():
    story = Story()
    story.operator("hold")
    story.snapshot()
    story.snapshot()
    assert [sent.action for sent in story.state.history] == ["hold_cell"]
    intended = story.last(facts.CommandIntended)
    histories = [
        apply(story.state, msgspec.structs.replace(intended, at=story.at + later_us)).history
        for later_us in (HISTORY_US, HISTORY_US - 1)
    ]
    assert [len(history) for history in histories] == [1, 2]


@pytest.mark.parametrize(("to_n", "direction"), [(40.0, 1), (20.0, -1)])
def test_budgets_remember_the_direction(to_n, direction):
    story = Story()
    story.operator("request", target="set_grip_force", args={"grip_force_n": to_n})
    story.snapshot()
    story.approve()
    story.snapshot()
    assert [sent.direction for sent in story.state.history] == [direction]


def test_the_state_of_the_line_is_followed_and_news_without_consequence_change_nothing():
    story = Story()
    story.feed(facts.LineStateChanged(at=story.at, state="HELD", number=11))
    assert story.state.packml_state == "HELD"
    before = story.state
    story.feed(facts.ConfigAdopted(at=story.at, name="policy.toml", sha256="0" * 64, who="anna", reason="start"))
    story.feed(facts.SourceGap(at=story.at, source="opcua", tags=(), from_at=0, until_at=1, reason="lost"))
    assert story.state == before


def test_evidence_that_is_older_than_a_read_back_does_not_make_its_set_point_old_again():
    story = Story().slip()
    assert story.state.known["motion_speed_sp_pct"] == 50.0
    for row_at, shown in ((story.at - 1, 50.0), (story.at, 100.0)):
        story.feed(facts.AnomalyUpdated(at=story.at, episode_id="ep1", evidence=evidence(row_at, "part_slip_mm")))
        assert story.state.known["motion_speed_sp_pct"] == shown
