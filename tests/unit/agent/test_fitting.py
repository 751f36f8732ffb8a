"""How known causes stand against the evidence, and what a small model is told of it."""

from __future__ import annotations

import pytest

from agent.reasoning.canonical import canonical
from agent.reasoning.fitting import candidates
from agent.reasoning.repertoire import Preferred, repertoire_of
from agent.reasoning.space import Draft, space_of
from pipelines.questions import question_for
from schemas.playbook import Playbook
from tests.support.demo import demo_rules
from tests.support.incidents import demo_playbook, demo_repertoire, incident


def found(request):
    known = demo_repertoire()
    evidence = canonical(request, known.rules.cell)
    return {c.rule.name: c for c in candidates(evidence, space_of(evidence, known), known)}


def slipping(detector: str = "limit", **shown: str):
    return incident(("part_slip_mm", "very_high", detector), shown=shown)


@pytest.mark.parametrize(
    ("request_", "marks"),
    [
        (slipping(finger_position_mm="normal", lift_peak_a="low"), ("shows", "clear", "clear")),
        (slipping(finger_position_mm="high", lift_peak_a="normal"), ("shows", "spoilt", "clear")),
        (slipping(lift_peak_a="normal"), ("shows", "undecided", "clear")),
        (slipping("stuck", finger_position_mm="normal", lift_peak_a="normal"), ("doubted", "clear", "clear")),
    ],
)
def test_each_sign_of_a_rule_gets_a_mark(request_, marks):
    assert found(request_)["oil_on_pads"].marks == marks


def test_a_cause_of_which_nothing_is_to_be_seen_is_not_told():
    assert set(found(slipping(finger_position_mm="normal", lift_peak_a="normal"))) == {"oil_on_pads"}


def test_a_remedy_is_ready_unless_its_value_cannot_be_asked_for_now():
    assert found(slipping())["oil_on_pads"].ready
    there_already = incident(("part_slip_mm", "high", "limit"), grip_force_sp_n=40.0)
    assert not found(there_already)["oil_on_pads"].ready
    one_step_is_too_short = incident(("drive_current_a", "high", "shift"), conveyor_speed_sp_pct=121.0)
    assert not found(one_step_is_too_short)["drive_drag"].ready


def test_a_deviation_stands_beside_the_causes_that_would_explain_it():
    request = incident(("lift_peak_a", "high", "shift"), ("part_slip_mm", "very_high", "limit"))
    assert question_for(request, demo_repertoire(), "slots").prompt.messages[0].content.splitlines() == [
        "proposal EXECUTE",
        "A01",
        "length very_high up limit leads shows1 partly0 lacks0 spoilt ready D01 "
        "beside shows1 partly0 lacks0 clear deviates first S01",
        "current high up shift leads shows1 partly0 lacks0 clear ready D01 "
        "beside shows1 partly0 lacks0 spoilt deviates again S02",
    ]


def test_a_cause_that_shows_less_than_another_one_is_told_beside_it():
    worn = next(rule for rule in demo_playbook().rules if rule.name == "worn_pad")
    slip = next(sign for rule in demo_playbook().rules if rule.name == "oil_on_pads" for sign in rule.when[:1])
    both = worn.model_copy(update={"name": "worn_and_slipping", "when": (*worn.when, slip)})
    known = repertoire_of(demo_rules(), Playbook(rules=(worn, both)))
    request = incident(("finger_position_mm", "high", "shift"), ("part_slip_mm", "high", "limit"))
    evidence = canonical(request, known.rules.cell)
    told = {c.rule.name: c.within for c in candidates(evidence, space_of(evidence, known), known)}
    assert told == {"worn_pad": ("worn_and_slipping",), "worn_and_slipping": ()}
    assert "leads within shows2 partly0 lacks0 clear shows1 partly0 lacks0 clear ready D01" in (
        question_for(request, known, "slots").prompt.messages[0].content
    )


def test_a_finding_is_about_a_measurement_that_is_believed():
    """Two signs of the gripper: one is doubted, and the other shows nothing of the cause but has an episode."""
    request = incident(("part_slip_mm", "high", "stuck"), ("lift_peak_a", "normal", "shift"))
    assert found(request)["oil_on_pads"].lead == "S2"


def test_an_answer_says_own_for_what_the_site_itself_does_against_the_cause():
    request = slipping(finger_position_mm="normal", lift_peak_a="normal")
    question = question_for(request, demo_repertoire(), "slots")
    draft, pieces = Draft(question.space), []
    for option in ("S1", "oil_on_pads", "set_grip_force", "40", "stop", "stop"):
        point = draft.point()
        assert point is not None
        pieces.append(question.phrasing.piece(draft, point, option))
        draft = draft.take(option)
    line = question.prompt.messages[0].content.splitlines()[2]
    assert line.endswith(" S01")
    assert "".join(pieces) == f" {line} yes D01 ready own own end end"


def test_a_detector_of_the_site_is_told_as_another_one():
    request = slipping("a_new_one")
    assert "a_new_one" not in question_for(request, demo_repertoire(), "slots").prompt.messages[0].content
    assert " up other " in question_for(request, demo_repertoire(), "slots").prompt.messages[0].content


def test_two_values_that_lie_close_together_are_told_apart():
    close = repertoire_of(demo_rules(), demo_playbook(), [Preferred("set_grip_force", "grip_force_n", 40.0001)])
    question = question_for(slipping(), close, "slots")
    draft = Draft(question.space).take("S1").take("oil_on_pads").take("set_grip_force")
    point = draft.point()
    assert point is not None
    pieces = [question.phrasing.piece(draft, point, option) for option in point.options]
    assert "40.0001" in point.options
    assert len(set(pieces)) == len(pieces)
