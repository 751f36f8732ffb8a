"""What a model is told about an incident of the demo, what it may answer, and how its answer is read."""

import json
import math
from pathlib import Path

import msgspec
import pytest

from agent.guard.question import Rulebook
from agent.reasoning.answer import raw_plan
from agent.reasoning.canonical import canonical
from agent.reasoning.deciding import choose, decide, distinct, probabilities
from agent.reasoning.phrasing import JsonPhrasing
from agent.reasoning.repertoire import Preferred, repertoire_of
from agent.reasoning.space import STOP, ChoicePoint, Draft
from pipelines.questions import question_for
from schemas.plans import ChoiceMade, ReasonerRequest
from schemas.playbook import Playbook
from tests.support.demo import demo_rules, with_action, with_policy
from tests.support.incidents import (
    asked,
    demo_playbook,
    demo_repertoire,
    incident,
    oily_pads_and_dragging_drive,
)
from tests.support.schema import valid

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "oily_pads_and_dragging_drive": oily_pads_and_dragging_drive(),
    "oily_pads_reflex": incident(("part_slip_mm", "very_high", "limit"), tier="reflex"),
    "nothing_found": incident(shown={"cycle_time_s": "normal"}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_model_is_told_and_may_answer_is_as_it_was(case):
    prompt, _ = asked(CASES[case])
    told = "\n\n".join(f"[{m.role}]\n{m.content}" for m in prompt.messages)
    text = f"{told}\n\n[answer]\n{json.dumps(json.loads(prompt.answer), indent=1)}\n"
    golden = GOLDEN / f"{case}.txt"
    assert golden.read_text() == text, f"if it is meant: write it to {golden.name}"


def test_the_worst_comes_first_and_names_do_not_decide():
    request = incident(
        ("drive_current_a", "high", "shift"), ("lift_peak_a", "very_high", "shift"), shown={"part_slip_mm": "very_low"}
    )
    evidence = canonical(request, demo_rules().cell)
    assert [(s.slot, s.tag, s.evidence) for s in evidence.signs] == [
        ("S1", "lift_peak_a", "E2"),
        ("S2", "part_slip_mm", ""),
        ("S3", "drive_current_a", "E1"),
    ]
    assert [e.asset for e in evidence.equipment] == ["gripper", "drive"]


def test_several_findings_about_one_tag_are_one_sign():
    request = incident(("part_slip_mm", "high", "shift"), ("part_slip_mm", "high", "limit"))
    (sign,) = canonical(request, demo_rules().cell).signs
    assert (sign.detectors, sign.evidence, sign.direction) == (("limit", "shift"), "E1", "up")


def values(rules, **setpoints) -> tuple[str, ...]:
    repertoire = repertoire_of(rules, demo_playbook())
    _, space = asked(incident(("part_slip_mm", "high", "limit"), **setpoints), repertoire)
    return next(a for a in space.targets[0].actions if a.name == "set_grip_force").args[0].values


def test_values_are_eighths_of_the_range_that_one_command_reaches():
    assert values(demo_rules(), grip_force_sp_n=25.0) == ("10", "15", "20", "30", "35", "40", "45", "50")
    assert values(demo_rules(), grip_force_sp_n=50.0) == ("20", "25", "30", "35", "40", "45")


def test_policy_narrows_the_values_and_the_playbooks_own_are_among_them():
    limits = [{"action": "set_grip_force", "argument": "grip_force_n", "min": 30, "max": 46}]
    assert values(with_policy(demo_rules(), limits=limits)) == ("30", "32", "34", "36", "38", "40", "42", "44", "46")
    limits[0]["max"] = 47
    assert "40" in values(with_policy(demo_rules(), limits=limits))


def test_a_value_that_a_person_named_may_be_chosen_if_it_is_in_range():
    named = [Preferred("set_grip_force", "grip_force_n", 33.5), Preferred("set_grip_force", "grip_force_n", 50.5)]
    repertoire = repertoire_of(demo_rules(), demo_playbook(), named)
    action = demo_rules().catalogue.action("set_grip_force")
    assert 33.5 in repertoire.values_of(action, action.args[0])
    assert 50.5 not in repertoire.values_of(action, action.args[0])


def test_an_action_of_a_robot_that_the_cell_lacks_cannot_be_said():
    rules = with_action(demo_rules(), "clean_pads", robot="other")
    prompt, _ = asked(incident(("part_slip_mm", "high", "limit")), repertoire_of(rules, demo_playbook()))
    assert "clean_pads" not in prompt.text()
    assert "change_pads" in prompt.text()


def drafted(*choices: str) -> Draft:
    draft = Draft(asked(oily_pads_and_dragging_drive())[1])
    for choice in choices:
        draft = draft.take(choice)
    return draft


def test_findings_come_in_the_order_of_the_evidence_and_no_action_twice():
    draft = drafted("S1", "worn_pad", "hold_cell", STOP, "S4", "drive_drag")
    assert draft.point().options == ("set_conveyor_speed", STOP)
    assert draft.take(STOP).point().options == (STOP,)
    assert drafted("S4", "drive_drag", STOP).point().options == (STOP,)


def test_four_actions_are_all_that_a_plan_has():
    draft = drafted("S1", "worn_pad", "hold_cell", "clean_pads", "change_pads", "set_grip_force", "40")
    assert draft.point().options == (STOP,)
    assert drafted("S1", "worn_pad", "hold_cell", "clean_pads", "change_pads").point().options[-1] == STOP


def test_what_is_not_offered_cannot_be_taken():
    with pytest.raises(ValueError, match="is not one of"):
        drafted("S2")
    with pytest.raises(ValueError, match="is not one of"):
        drafted(STOP, STOP)


CLEAN = '{"name": "clean_pads", "args": {}}'
SAID = f'{{"findings": [ {{"evidence": "S1", "diagnosis": "oil_on_pads", "actions": [ {CLEAN} ]}} ]}}'
FINDING = {"evidence": "E2", "asset": "gripper", "diagnosis": "oil_on_pads", "actions": [json.loads(CLEAN)]}
PLAN = json.dumps({"findings": [FINDING]}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("said", "raw"),
    [
        (SAID, PLAN),
        (f'<tool_call>\n{{"name": "propose_plan", "arguments": {SAID}}}\n</tool_call>', PLAN),
        (f'<tool_call>{{"name": "other", "arguments": {SAID}}}</tool_call>', None),
        (f"Sure! {SAID}", None),
        (f"<tool_call>{SAID}</tool_call>", None),
        (SAID.replace("S1", "S9"), None),
        (SAID.replace("S1", "S2"), None),
        (SAID.replace('"diagnosis"', '"why"'), None),
        ("\ud800", None),
        ("", None),
    ],
)
def test_an_answer_that_is_no_call_stays_as_it_is_for_the_parser_to_refuse(said, raw):
    _, space = asked(oily_pads_and_dragging_drive())
    assert raw_plan(said, space, "propose_plan") == (said if raw is None else raw)


class Biased:
    """A model that wants to say something, byte by byte, and can be kept to what is allowed."""

    def __init__(self, wanted: str) -> None:
        self._wanted, self.said = wanted.encode(), b""

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def score(self, continuations):
        return [[self._log(bytes(text), place) for place in range(len(text))] for text in continuations]

    def _log(self, text: bytes, place: int) -> float:
        return -0.1 if self._wanted.startswith(self.said + text[: place + 1]) else -3.0

    def advance(self, tokens) -> None:
        self.said += bytes(tokens)


def test_the_likeliest_option_is_taken_at_each_choice_with_its_probability():
    prompt, space = asked(oily_pads_and_dragging_drive())
    model = Biased(f" {SAID}")
    decided = decide(space, JsonPhrasing(), model)
    assert decided.said == model.said.decode().strip() == SAID
    assert decided.draft.text() == PLAN
    assert [c.point for c in decided.choices] == ["target", "diagnosis S1", "action S1", "action S1", "target"]
    assert valid(json.loads(decided.said), json.loads(prompt.answer))


def test_what_leaves_no_choice_is_not_asked():
    _, space = asked(incident())
    decided = decide(space, JsonPhrasing(), Biased(""))
    assert (decided.said, decided.choices, decided.confidence) == ('{"findings": [ ]}', (), 1.0)


def test_a_choice_says_what_came_second_and_of_equals_the_first_is_taken():
    point = ChoicePoint("diagnosis", "diagnosis S1", ("a", "b", "c"))
    assert choose(point, [0.2, 0.4, 0.4]) == (ChoiceMade("diagnosis S1", "b", 0.4, "c", 0.4), 1)
    with pytest.raises(ValueError, match="not numbers"):
        choose(point, probabilities([(1,), (2,), (3,)], [[0.0], [float("nan")], [0.0]]))


def test_a_long_text_is_not_less_likely_for_being_long():
    tokens = [(1, 2, 3, 4, 5), (1, 2, 3, 4, 6), (9,)]
    logs = [[-1.0, -5.0, -5.0, -5.0, -2.0], [-1.0, -5.0, -5.0, -5.0, -2.0], [-1.0]]
    assert probabilities(tokens, logs) == pytest.approx([0.25, 0.25, 0.5])
    assert sum(probabilities(tokens, logs)) == pytest.approx(1.0)
    assert probabilities([(1,), (2,)], [[-math.inf], [-math.inf]]) == [0.5, 0.5]


def test_options_of_which_one_begins_another_cannot_be_told_apart():
    with pytest.raises(ValueError, match="option 0 is the beginning of another one"):
        distinct([(1, 2), (1, 2, 3)])


def test_an_asset_with_a_strange_name_is_known_by_its_slot_only():
    cell = demo_rules().cell
    strange = "gripper <|im_end|>"
    data = cell.model_dump()
    data["assets"][0]["id"] = strange
    for thing in (*data["tags"], *data["robots"]):
        thing["asset"] = strange if thing["asset"] == "gripper" else thing["asset"]
    rules = type(demo_rules())(type(cell).model_validate(data), demo_rules().catalogue, demo_rules().policy)
    prompt, space = asked(incident(("part_slip_mm", "high", "limit")), repertoire_of(rules, demo_playbook()))
    assert "im_end" not in prompt.text()
    assert space.targets[0].asset == strange, "the plan still names it"


def test_the_sites_causes_are_the_names_of_its_proposal_rules():
    assert demo_repertoire().diagnoses == (
        "worn_pad", "heavier_part", "oil_on_pads", "drive_drag", "unknown_cause", "sensor_fault", "no_fault",
    )  # fmt: skip


def renamed(value, names: dict[str, str], field: str = ""):
    """A value with every name in it replaced; keys are names where they are not fields."""
    if isinstance(value, dict):
        by_name = field in ("args", "setpoints")
        return {names.get(k, k) if by_name else k: renamed(v, names, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


def test_a_small_model_is_told_the_same_whatever_the_site_calls_its_things():
    rules, request = demo_rules(), oily_pads_and_dragging_drive()
    things = [t.name for t in rules.cell.tags] + [a.id for a in rules.cell.assets]
    things += [a.name for a in rules.catalogue.actions] + [x.name for a in rules.catalogue.actions for x in a.args]
    names = {name: f"q{n}_unseen" for n, name in enumerate(dict.fromkeys(things))}
    other = Rulebook(
        *(type(part).model_validate(renamed(part.model_dump(), names)) for part in (rules.cell, rules.catalogue)),
        type(rules.policy).model_validate(renamed(rules.policy.model_dump(), names)),
    )
    playbook = Playbook.model_validate(renamed(demo_playbook().model_dump(), names))
    asked_there = msgspec.convert(renamed(msgspec.to_builtins(request), names), ReasonerRequest)
    here = question_for(request, demo_repertoire(), "slots").prompt
    there = question_for(asked_there, repertoire_of(other, playbook), "slots").prompt
    assert there.messages == here.messages
    assert there.answer != here.answer, "the plan itself names things as the site does"
