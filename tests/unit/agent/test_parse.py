"""Every way in which an answer is unusable, and the rule that says so."""

import json

import pytest

from agent.reasoning.parse import parse_plan
from schemas.facts import PlanUnusable, decode, encode
from schemas.plans import Plan, Unusable
from tests.support.builders import plan_text, question
from tests.support.demo import demo_rules, with_policy

GRIP = {"name": "set_grip_force", "args": {"grip_force_n": 40}}
CLEAN = {"name": "clean_pads", "args": {}}
BYTES_MAX = demo_rules().policy.answer_bytes_max
SURROGATE = "\\u" + "d800"


def finding(*actions: object, **changes: object) -> dict[str, object]:
    base = {"evidence": "E1", "asset": "gripper", "diagnosis": "oil on the pads", "actions": list(actions)}
    return {**base, **changes}


def answer(*findings: object, **more: object) -> str:
    return json.dumps({"findings": list(findings), **more})


def rule(raw: str) -> str:
    """The rule that makes an answer unusable; empty if it is a plan."""
    parsed = parse_plan(raw, question(), demo_rules())
    if isinstance(parsed, Plan):
        return ""
    fact = PlanUnusable(at=0, request_id="r", incident_id="i", rule=parsed.rule, reason=parsed.reason)
    assert decode(encode(fact)) == fact, "whatever was answered, the log can hold what is said of it"
    assert 0 < len(parsed.reason) < 1000
    return parsed.rule


@pytest.mark.parametrize(
    "raw",
    [
        answer(),
        answer(finding()),
        answer(finding(GRIP)),
        answer(finding(CLEAN), finding(evidence="E2", asset="drive")),
        answer(finding({"name": "hold_cell", "args": {}})),
        answer(finding({"name": "clean_pads"})),
        answer(finding(CLEAN, CLEAN), finding(CLEAN, CLEAN), finding()),
        answer(finding(CLEAN, CLEAN, CLEAN, CLEAN)),
        answer(finding(diagnosis="x")),
        answer(finding(diagnosis="~" * 200)),
        answer(finding({"name": "set_grip_force", "args": {"grip_force_n": 1e308}})),
    ],
)
def test_a_usable_answer_is_a_plan(raw):
    assert rule(raw) == ""


def test_a_plan_is_what_was_answered():
    plan = parse_plan(plan_text(("set_grip_force", {"grip_force_n": 40.0})), question(), demo_rules())
    assert isinstance(plan, Plan)
    assert plan.findings[0].actions[0].args == {"grip_force_n": 40.0}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # not JSON, or JSON that readers disagree on
        ("", "answer.json"),
        ("slow everything down", "answer.json"),
        ("\x00", "answer.json"),
        ('{"findings": []} trailing', "answer.json"),
        ('{"findings": [], "findings": []}', "answer.json"),
        (answer(finding(GRIP)).replace('"grip_force_n": 40', '"grip_force_n": 40, "grip_force_n": 50'), "answer.json"),
        ('{"findings": NaN}', "answer.json"),
        (answer(finding(GRIP)).replace("40", "NaN"), "answer.json"),
        (answer(finding(GRIP)).replace("40", "Infinity"), "answer.json"),
        (answer(finding(GRIP)).replace("40", "-Infinity"), "answer.json"),
        (answer(finding(GRIP)).replace("40", "1" * 5000), "answer.json"),
        ('{"findings": ' + "[" * 4000 + "]" * 4000 + "}", "answer.json"),
        ("[" * 8000, "answer.json"),
        # JSON of another shape
        ("null", "answer.schema"),
        ("[]", "answer.schema"),
        ("{}", "answer.schema"),
        ('{"findings": {}}', "answer.schema"),
        ('{"findings": ' + "[" * 200 + "]" * 200 + "}", "answer.schema"),
        (answer(confidence=1.0), "answer.schema"),
        (answer(finding(confidence=1.0)), "answer.schema"),
        (answer(finding({**CLEAN, "force": True})), "answer.schema"),
        (answer({"evidence": "E1"}), "answer.schema"),
        (answer(finding(evidence=1)), "answer.schema"),
        (answer(finding("clean_pads")), "answer.schema"),
        (answer(finding({"name": "set_grip_force", "args": {"grip_force_n": "40"}})), "answer.schema"),
        (answer(finding({"name": "set_grip_force", "args": {"grip_force_n": None}})), "answer.schema"),
        (answer(finding({"name": "set_grip_force", "args": {"grip_force_n": True}})), "answer.schema"),
        (answer(finding(GRIP)).replace("40", "1e999"), "answer.schema"),
        (answer(finding(diagnosis="@")).replace("@", SURROGATE), "answer.schema"),
        ('{"findings": [], "\ud800": 1}', "answer.schema"),
        # too much of it
        (answer(finding(), finding(), finding(), finding()), "answer.schema"),
        (answer(finding(*[CLEAN] * 5)), "answer.schema"),
        (answer(finding(*[CLEAN] * 3), finding(*[CLEAN] * 2)), "answer.schema"),
        # a diagnosis is shown to people
        (answer(finding(diagnosis="")), "answer.schema"),
        (answer(finding(diagnosis="~" * 201)), "answer.schema"),
        (answer(finding(diagnosis="oil\non the pads")), "answer.schema"),
        (answer(finding(diagnosis="oil\n")), "answer.schema"),
        (answer(finding(diagnosis="\x1b[2J")), "answer.schema"),
        (answer(finding(diagnosis="Öl")), "answer.schema"),
        # about something that was not shown
        (answer(finding(evidence="E3")), "answer.slots"),
        (answer(finding(evidence="")), "answer.slots"),
        (answer(finding(asset="drive")), "answer.evidence"),
        (answer(finding(evidence="E2")), "answer.evidence"),
        (answer(finding(), finding(evidence="E9")), "answer.slots"),
        # outside the catalogue
        (answer(finding({"name": "release_estop", "args": {}})), "answer.catalogue"),
        (answer(finding({"name": "Clean_Pads", "args": {}})), "answer.catalogue"),
        (answer(finding({"name": "set_grip_force", "args": {}})), "answer.arguments"),
        (answer(finding({"name": "set_grip_force", "args": {"force": 40}})), "answer.arguments"),
        (answer(finding({"name": "set_grip_force", "args": {"grip_force_n": 40, "also": 1}})), "answer.arguments"),
        (answer(finding({"name": "clean_pads", "args": {"also": 1}})), "answer.arguments"),
        (answer(finding({"name": "set_conveyor_speed", "args": {"conveyor_speed_pct": 60}})), "answer.scope"),
        (answer(finding(CLEAN, evidence="E2", asset="drive")), "answer.scope"),
        (answer(finding(CLEAN), finding(CLEAN, evidence="E2", asset="drive")), "answer.scope"),
    ],
)  # fmt: skip
def test_an_unusable_answer_names_its_rule(raw, expected):
    assert rule(raw) == expected


@pytest.mark.parametrize(("filler", "width"), [(" ", 1), ("ö", 2), ("\ud800", 3), ("😀", 4)])
def test_the_size_is_counted_in_bytes_up_to_the_edge(filler, width):
    head = '{"findings": []}' + " " * (BYTES_MAX - 16 - width)
    assert parse_plan(head + " " * width, question(), demo_rules()) == Plan(())
    assert rule(head + filler) in ("", "answer.json")
    assert rule(head + " " + filler) == "answer.size"


def test_the_scope_of_the_hold_is_the_whole_cell_and_of_nothing_else():
    held = answer(finding({"name": "hold_cell", "args": {}}))
    assert isinstance(parse_plan(held, question(), demo_rules()), Plan)
    unusable = parse_plan(held, question(), with_policy(demo_rules(), hold_action="clean_pads"))
    assert isinstance(unusable, Unusable)
    assert unusable.rule == "answer.scope"


def test_an_answer_to_a_question_without_slots_can_only_be_empty():
    nothing = question(("E1", "gripper")).__class__(
        request_id="r", incident_id="i", tier="proposal", slots=(), evidence=question().evidence, deadline_s=1.0
    )
    assert parse_plan(answer(), nothing, demo_rules()) == Plan(())
    assert isinstance(parse_plan(answer(finding()), nothing, demo_rules()), Unusable)
