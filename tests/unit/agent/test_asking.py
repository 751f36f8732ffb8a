"""A sentence through the core: it becomes a proposal like any other, or a reason, and runs by nobody's text alone."""

import asyncio
import json

import msgspec
import pytest

from agent.asking.languages import LANGUAGES
from agent.effects import AskReasoner, Dispatch, ReadSetpoints, TakeSnapshot, outstanding
from agent.identity import derive
from agent.step import step
from pipelines.asking import Phrasebook
from pipelines.log_view import summary
from schemas import facts
from schemas.facts import encode
from schemas.plans import Completion, ReasonerRequest
from schemas.sentences import SENTENCE_CHARS_MAX, Sentence, interpretation_of
from tests.support.asking import Asking, with_inspection
from tests.support.builders import SECOND, asked_by, evidence, plan_text, snapshot
from tests.support.demo import demo_rules, with_autonomy, with_policy
from tests.support.incidents import demo_repertoire

SLOW = "slow the conveyor to 60 %"


def test_a_sentence_becomes_a_plan_that_waits_for_approval_and_is_done_step_by_step():
    story = Asking(with_inspection()).asks("slow conveyor 2 to 60 % and inspect the gripper")
    assert story.proposed == [("set_conveyor_speed", {"conveyor_speed_pct": 60.0}), ("inspect_gripper", {})]
    plan = story.last(facts.PlanProposed)
    assert (plan.origin, plan.who, plan.request_id, plan.incident_id) == ("operator", "anna", "ask1", "")
    assert [f.diagnosis for f in plan.findings] == ["slow conveyor 2 to 60 %", "inspect the gripper"]
    assert story.phases == ["awaiting_approval", "proposed"]
    assert not story.wished(TakeSnapshot)
    story.approve()
    story.done()
    assert story.plant["conveyor_speed_sp_pct"] == 60.0
    story.verified()
    assert story.waiting_for_approval().command.action == "inspect_gripper"


def test_what_is_recorded_is_the_sentence_who_the_language_the_interpretation_and_the_reader():
    story = Asking().asks("slow the conveyor to 60 % and juggle")
    asked = story.last(facts.ReasonerAsked).request
    assert asked.sentence == Sentence("ask1", "anna", "en", "slow the conveyor to 60 % and juggle")
    completion = story.last(facts.ReasonerAnswered).completion
    assert (completion.reasoner, completion.model["language"]) == ("phrasebook", "en")
    found = interpretation_of(completion.model["interpretation"])
    assert [p.words for p in found.understood] == ["slow the conveyor to 60 %"]
    assert [(p.words, p.reason) for p in found.not_understood] == [("juggle", "'juggle' means nothing here")]
    assert asked.request_id != "ask1", "its id is not the person's to choose"
    assert "; not understood: 'juggle'" in summary(story.last(facts.ReasonerAnswered))
    hostile = asked_by(1, "ask", "r", reason="a\x1b[2Jb\u202e")
    assert summary(hostile) == "anna: ask  a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("action", ["set_conveyor_speed", "hold_cell"])
def test_an_action_that_runs_without_asking_waits_for_a_person_when_a_text_asks_for_it(action):
    text = "hold the cell" if action == "hold_cell" else SLOW
    story = Asking(with_autonomy(demo_rules(), action, "auto")).asks(text)
    judged = story.last(facts.GuardJudged)
    assert (judged.decision, judged.approvals, judged.risk_class) == ("needs_approval", 1, "B")
    assert not story.wished(Dispatch)


def test_the_same_action_by_jidoka_request_still_runs_by_its_autonomy():
    story = Asking()
    story.operator("request", target="set_conveyor_speed", args={"conveyor_speed_pct": 60.0})
    story.snapshot()
    assert story.last(facts.GuardJudged).decision == "permitted"


def test_an_approval_of_another_hash_is_refused():
    story = Asking().asks(SLOW)
    story.approve(sha256="0" * 64)
    assert story.refusal[0] == "approval.hash"
    assert story.phases == ["awaiting_approval"]


def test_a_number_out_of_range_is_refused_by_the_guard_and_never_clamped():
    story = Asking().asks("set the grip force to 400 N")
    assert story.proposed == [("set_grip_force", {"grip_force_n": 400.0})]
    assert story.refusals == ["range", "step"]
    assert "400 is outside 10..50 (catalogue)" in story.last(facts.PlanDropped).reason
    assert not story.state.commands


def test_a_later_step_that_the_guard_refuses_stops_the_whole_before_the_first():
    story = Asking().asks("clean the pads and set the grip force to 400 N")
    judged = story.last(facts.GuardJudged)
    force = story.last(facts.PlanProposed).commands[1]
    assert (judged.command_id, judged.decision) == (force.command_id, "refused")
    assert "range" in story.last(facts.PlanDropped).reason
    assert (story.state.commands, story.state.plans, story.of(facts.ApprovalRequested)) == ({}, {}, [])


def test_a_step_against_the_safe_direction_keeps_its_class():
    story = Asking().asks("slow the conveyor to 60 %")
    story.approve()
    story.done()
    story.verified()
    story.asks("raise the conveyor to 100 %", "ask2")
    assert "class D" in story.last(facts.PlanDropped).reason


@pytest.mark.parametrize(("text", "rule"), [
    ("", "sentence.empty"),
    ("   ", "sentence.empty"),
    ("a" * (SENTENCE_CHARS_MAX + 1), "sentence.length"),
    ("slow the conveyor to 60 %" * 400_000, "sentence.length"),
    ("slow the conveyor to \u202e06 %", "sentence.characters"),
    ("slow the conveyor to 60\u200b0 %", "sentence.characters"),
    ("slow the conveyor\x00 to 60 %", "sentence.characters"),
    ("slow the conveyor\x1b[2J to 60 %", "sentence.characters"),
    ("slow the conveyor\nto 60 %", "sentence.characters"),
    ("slow the conveyor\U000e0041 to 60 %", "sentence.characters"),
], ids=["empty", "blank", "one too long", "10 MB", "bidi", "no width", "nul", "escape", "newline", "tag"])  # fmt: skip
def test_a_text_that_nobody_could_read_at_a_glance_is_refused_before_any_reader_sees_it(text, rule):
    story = Asking().asks(text)
    assert story.refusal[0] == rule
    assert len(story.refusal[1]) < 200
    assert not (story.wished(ReadSetpoints))
    assert not (story.wished(AskReasoner))


def test_a_text_of_the_most_characters_is_read():
    story = Asking().asks(SLOW + " " * (SENTENCE_CHARS_MAX - len(SLOW)))
    assert story.phases == ["awaiting_approval"]


def test_a_language_without_words_is_refused_naming_those_that_there_are():
    story = Asking().asks(SLOW, target="xx")
    assert story.refusal == ("sentence.language", "there are no words for language 'xx'; there are en")


@pytest.mark.parametrize("text", ["don't slow the conveyor to 60 %", "is the conveyor slow?", "make it so"])
def test_a_text_of_which_nothing_may_follow_is_refused_with_what_was_not_understood(text):
    story = Asking().asks(text)
    rule, reason = story.refusal
    assert rule == "sentence.not_understood"
    assert text in reason.replace('"', "'") or repr(text) in reason
    assert not story.of(facts.PlanProposed)


def test_in_mode_observe_and_with_automation_off_nothing_is_even_read():
    story = Asking(mode="observe").asks(SLOW)
    assert story.refusal[0] == "mode"
    story = Asking()
    story.operator("off")
    story.asks(SLOW)
    assert story.refusal[0] == "off_switch"
    assert not story.wished(ReadSetpoints)


def test_automation_that_is_switched_off_while_it_is_read_refuses_it_at_the_guard():
    story, answer = waiting_for_its_reader()
    story.operator("off")
    story.feed(answer)
    assert "off_switch" in story.refusals
    assert not story.state.plans


def test_off_drops_what_a_sentence_proposed():
    story = Asking().asks(SLOW)
    story.operator("off")
    assert story.last(facts.PlanDropped).reason == "anna switched automation off"
    assert not story.state.commands


def waiting_for_its_reader(text: str = SLOW) -> tuple[Asking, facts.ReasonerAnswered]:
    """A story in which the reader has not answered yet, and the answer."""
    story = Asking()
    story.operator("ask", "ask1", reason=text)
    (wish,) = story.outstanding(ReadSetpoints)
    story.feed(snapshot(wish.subject_id, story.at, story.read()))
    (ask,) = story.outstanding(AskReasoner)
    completion = asyncio.run(Phrasebook(demo_repertoire()).propose(ask.request))
    return story, facts.ReasonerAnswered(at=story.at, request_id=ask.request.request_id, completion=completion)


def test_a_restart_while_it_is_read_asks_the_reader_again_and_reads_no_set_point_twice():
    story, answer = waiting_for_its_reader()
    story.feed(facts.AgentStarted(at=story.at, version="0", code_sha256="0" * 64, mode="act", epoch=2))
    assert not story.outstanding(ReadSetpoints)
    assert [a.request.request_id for a in story.outstanding(AskReasoner)] == [answer.request_id]
    story.feed(answer)
    assert story.phases == ["awaiting_approval"]


def test_a_restart_in_mode_observe_refuses_it_and_its_late_answer_is_dropped():
    story, answer = waiting_for_its_reader()
    story.feed(facts.AgentStarted(at=story.at, version="0", code_sha256="0" * 64, mode="observe", epoch=2))
    assert story.refusal[0] == "mode"
    assert outstanding(story.state, story.rules.policy) == {}
    story.feed(answer)
    assert story.types()[-1] == "answer.dropped"


def test_a_reader_that_does_not_answer_in_time_or_fails_is_said_to_the_person():
    story, answer = waiting_for_its_reader()
    story.wake("deadline")
    assert story.refusal == ("reasoner.deadline", "no answer within 10 s")
    assert not (story.state.asks)
    assert not (story.state.requests)
    story, answer = waiting_for_its_reader()
    story.feed(facts.ReasonerFailed(at=story.at, request_id=answer.request_id, reasoner="large", reason="gone"))
    assert story.refusal == ("reasoner.failed", "large: gone")


def test_set_points_that_cannot_be_read_and_a_request_of_long_ago_are_refused():
    story = Asking()
    story.operator("ask", "ask1", reason=SLOW)
    story.feed(snapshot("ask1", story.at, {}, failure="server is gone"))
    assert story.refusal == ("freshness.snapshot", "the set-points cannot be read: server is gone")
    story.operator("ask", "ask2", reason=SLOW)
    story.later(story.rules.policy.decision_max_age_s + 1)
    story.feed(snapshot("ask2", story.at, story.read()))
    assert story.refusal[0] == "freshness.decision"
    story.feed(asked_by(story.at + 5 * SECOND, "ask", "ask3", reason=SLOW))  # from a clock ahead of ours
    story.feed(snapshot("ask3", story.at, story.read()))
    assert story.refusal[0] == "freshness.decision"


def test_a_request_is_followed_once_however_often_it_is_delivered():
    story = Asking().asks(SLOW)
    before = len(story.facts)
    story.feed(story.of(facts.OperatorRequested)[0])
    assert story.types(before) == ["operator.requested"]


def test_it_joins_the_open_incident_of_what_it_acts_on_and_waits_for_no_reasoner_of_it():
    story = Asking()
    story.anomaly()
    story.asks("clean the pads")
    assert story.last(facts.PlanProposed).incident_id == next(iter(story.state.incidents))
    assert [a.request.tier for a in story.outstanding(AskReasoner)] == ["reflex"], "the incident goes its own way"


def said_instead(answer: facts.ReasonerAnswered, raw: str) -> facts.ReasonerAnswered:
    """The answer of a reader that says something else of the same sentence, beside how the tables read it."""
    return msgspec.structs.replace(answer, completion=Completion(raw, "hostile", answer.completion.model))


CLEAN = plan_text(("clean_pads", {}))


@pytest.mark.parametrize("text", ["don't clean the pads", "clean the pads?", "if it slips clean the pads"])
def test_from_a_text_that_denies_or_asks_nothing_follows_whoever_read_it(text):
    story, answer = waiting_for_its_reader(text)
    story.feed(said_instead(answer, CLEAN))
    assert story.refusal[0] == "sentence.not_understood"
    assert "nothing follows from a text that does" in story.refusal[1]
    assert not story.of(facts.PlanProposed)
    assert not (story.state.asks or story.state.requests)  # noqa: PT018 - both are bounds of one thing


@pytest.mark.parametrize("model", [{}, {"interpretation": "{"}, {"interpretation": '{"barred": "no"}'}])
def test_an_answer_that_does_not_tell_how_the_sentence_was_read_is_not_followed(model):
    story, answer = waiting_for_its_reader("clean the pads")
    story.feed(msgspec.structs.replace(answer, completion=Completion(CLEAN, "hostile", model)))
    assert story.refusal == ("sentence.not_understood", "its answer does not tell how the tables read the sentence")
    assert not story.of(facts.PlanProposed)


HOSTILE = [
    (plan_text(("set_conveyor_speed", {"conveyor_speed_pct": 70.0}), slot="E2", asset="drive"), "sentence.value"),
    (plan_text(("set_grip_force", {"grip_force_n": 41.0})), "sentence.value"),
    (plan_text(("open_gripper", {})), "answer.catalogue"),
    (plan_text(("clean_pads", {}), slot="E9"), "answer.slots"),
    (plan_text(("set_conveyor_speed", {"conveyor_speed_pct": 60.0})), "answer.scope"),
    (plan_text(("set_conveyor_speed", {}), slot="E2", asset="drive"), "answer.arguments"),
    ("approved", "answer.json"),
    ('{"findings": []}', "sentence.not_understood"),
]


@pytest.mark.parametrize(("raw", "rule"), HOSTILE, ids=[rule + str(n) for n, (_, rule) in enumerate(HOSTILE)])
def test_a_reader_that_says_what_the_sentence_does_not_is_not_followed(raw, rule):
    story, answer = waiting_for_its_reader()
    assert [s.asset for s in story.last(facts.ReasonerAsked).request.slots] == ["gripper", "drive", "cell"]
    story.feed(said_instead(answer, raw))
    assert story.refusal[0] == rule
    assert not (story.state.plans)
    assert not (story.state.asks)
    assert not (story.state.requests)


def test_a_reader_that_adds_an_action_without_a_value_is_seen_by_who_approves_and_runs_by_nobodys_word():
    story, answer = waiting_for_its_reader()
    raw = plan_text(("change_pads", {}))
    story.feed(said_instead(answer, raw))
    assert story.waiting_for_approval().command.action == "change_pads"
    assert not story.wished(Dispatch)


def test_an_incidents_question_has_the_bytes_that_it_had_before_there_were_sentences():
    request = ReasonerRequest("r", "i", "reflex", (), evidence(), 1.0)
    raw = json.loads(encode(facts.ReasonerAsked(at=1, request=request)))
    assert sorted(raw["request"]) == ["deadline_s", "evidence", "incident_id", "request_id", "slots", "tier"]


def test_what_was_derived_from_recorded_answers_is_derived_again_byte_for_byte():
    story = Asking().asks("slow the conveyor to 60 %, juggle and clean the pads")
    story.approve()
    story.done()
    external = [f for f in story.facts if facts.type_name(f) not in facts.DERIVED_NAMES or _detected(f)]
    again = Asking(story.rules).state
    again = type(again)(again.cell)
    bytes_again = []
    for fact in external:
        stepped = step(again, fact, story.rules)
        again = stepped.state
        bytes_again += [encode(f) for f in (fact, *stepped.facts)]
    assert bytes_again == [encode(f) for f in story.facts]


def _detected(fact: facts.AnyFact) -> bool:
    return isinstance(fact, facts.Detected.__args__)


def test_a_policys_own_deadline_bounds_the_reader():
    story = Asking(with_policy(demo_rules(), reasoner_deadline_s=3.0))
    story.operator("ask", "ask1", reason=SLOW)
    story.feed(snapshot("ask1", story.at, story.read()))
    assert story.last(facts.ReasonerAsked).request.deadline_s == 3.0
    assert story.last(facts.ReasonerAsked).request.request_id == derive(
        story.state.cell, "asked", "ask1", "anna", str(story.at)
    )


def test_every_language_has_its_table():
    assert sorted(LANGUAGES) == ["en"]
