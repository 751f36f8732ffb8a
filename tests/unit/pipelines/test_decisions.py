"""What was decided and proven as something to learn from: the right slot, the right cause, or a word why not."""

from __future__ import annotations

import msgspec

from agent.reasoning.space import STOP
from pipelines.evaluation.cases import (
    SITE_FILES,
    Case,
    Header,
    IncidentSet,
    RightAction,
    RightFinding,
    RightPlan,
    site_of,
)
from pipelines.evaluation.generated import generated_set
from pipelines.training.decisions import decisions_of
from pipelines.training.examples import example
from pipelines.training.tune import split
from schemas.plans import PlannedAction
from tests.support.demo import CONFIG
from tests.support.incidents import incident, oily_pads_and_dragging_drive

SITE = site_of("demo", {name: (CONFIG / name).read_bytes() for name in SITE_FILES})


def learnt(*findings: RightFinding, request=None):
    """The one decision with this as what was proven, or why it cannot be learnt from."""
    case = Case("c1", "demo", "recorded", request or oily_pads_and_dragging_drive(), (RightPlan(findings),))
    found, left = decisions_of(IncidentSet(Header("a log", ""), {"demo": SITE}, (case,)))
    return found[0].incident.right if found else left


def force(newton: float) -> RightAction:
    return RightAction("set_grip_force", {"grip_force_n": (newton, newton)})


def test_a_proven_plan_is_told_as_the_cause_whose_remedy_it_was():
    (found,) = learnt(RightFinding("gripper", (), (force(40.0),)))
    assert (found.slot, found.diagnosis) == ("S1", "oil_on_pads")
    assert found.actions == (PlannedAction("set_grip_force", {"grip_force_n": 40.0}),)


def test_what_a_person_did_that_no_rule_names_is_learnt_under_an_unknown_cause():
    (found,) = learnt(RightFinding("gripper", (), (force(30.0),)))
    assert (found.slot, found.diagnosis) == ("S1", "unknown_cause")


def test_a_cause_that_is_given_is_kept():
    (found,) = learnt(RightFinding("drive", ("drive_drag",)))
    assert (found.diagnosis, found.actions) == ("drive_drag", ())


def test_what_could_not_have_been_chosen_is_left_out_and_said():
    (line,) = learnt(RightFinding("gripper", (), (force(33.3),)))
    assert line.startswith("c1: '33.3' is not one of")
    for action in ("set_conveyor_speed", "set_grip_forse"):
        (line,) = learnt(RightFinding("gripper", (), (RightAction(action),)))
        assert line == f"c1: {action} with nothing was not offered"
    (line,) = learnt(RightFinding("drive", ("drive_drag",)), request=incident(("part_slip_mm", "high", "limit")))
    assert line == "c1: nothing of drive was found, so that no finding can be about it"


def test_every_case_that_a_site_generates_can_be_learnt_from():
    found, left = decisions_of(generated_set(SITE, 20, seed=4))
    assert len(found) > 60
    assert not left
    for each in found:
        options = [option for _, option in each.incident.drafts()]
        assert options[-1] == STOP
        assert example(each.incident, each.cell).tokens


def test_the_same_decisions_are_kept_back_each_time():
    found, _ = decisions_of(generated_set(SITE, 20, seed=4))
    learnt_from, kept = split(found)
    assert len(kept) + len(learnt_from) == len(found)
    assert 0.05 < len(kept) / len(found) < 0.4
    assert split(list(reversed(found)))[1] == list(reversed(kept))


def test_a_set_names_the_cell_that_it_is_about_only_if_it_is_not_the_first():
    assert b'"cell"' not in msgspec.json.encode(SITE)
