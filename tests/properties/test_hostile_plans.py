"""Thousands of answers of hostile reasoners, through the cascade; `python -m tests.support.hostile` runs any number."""

import pytest

from tests.support.builders import SETPOINTS, command
from tests.support.demo import demo_rules
from tests.support.hostile import OutsideTheEnvelope, Story, assert_approved, assert_inside, hostile_plans
from tests.support.malice import MALICE

PLANS = 5_000


def test_no_plan_of_a_hostile_reasoner_leads_outside_the_envelope():
    counts = hostile_plans(PLANS, seed=1)
    assert counts["plans"] == counts["usable"] + counts["unusable"] == PLANS
    assert counts["permitted"] > PLANS // 50
    assert counts["refused"] > PLANS // 50
    for rule in ("range", "step", "risk_class"):
        assert counts[f"refused.{rule}"] > 0
    for kind in set(MALICE) - {"silent"} | {"playbook"}:
        assert counts[f"answered.{kind}"] > 0
    for number in (0, 1):
        assert counts[f"approvals.{number}"] > 0


def test_a_run_in_two_parts_is_the_run_in_one():
    whole = hostile_plans(60, seed=3)
    first, second = hostile_plans(25, seed=3), hostile_plans(35, seed=3, start=25)
    assert whole == {key: first.get(key, 0) + second.get(key, 0) for key in {**first, **second}}


@pytest.mark.parametrize(
    "changes",
    [
        {"args": {"motion_speed_pct": 19.0}},
        {"args": {"motion_speed_pct": float("nan")}},
        {"args": {"motion_speed_pct": 30.0}},
        {"args": {}},
        {"robot": "drive"},
        {"action": "release_estop"},
    ],
)
def test_the_envelope_of_this_test_has_an_outside(changes):
    asked = command(**{"action": "set_motion_speed", **changes})
    with pytest.raises(OutsideTheEnvelope):
        assert_inside(asked, demo_rules(), SETPOINTS)


def test_the_envelope_of_this_test_has_an_inside():
    assert_inside(command("set_motion_speed"), demo_rules(), SETPOINTS)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (command("set_motion_speed"), 0),
        (command("hold_cell"), 0),
        (command("set_grip_force"), 1),
        (command("clean_pads"), 1),
        (command("set_motion_speed", args={"motion_speed_pct": 100.0}), 2),
    ],
    ids=lambda value: value if isinstance(value, int) else value.action,
)
def test_the_approvals_of_this_test_have_an_inside_and_an_outside(asked, wanted):
    people = ["anna", "ben"][:wanted]
    story = Story(demo_rules(), {**SETPOINTS, "motion_speed_sp_pct": 80.0})
    story.yes[asked.command_id, "0" * 64] = {"anna", "ben"}  # of another command under the same id
    if wanted:
        story.yes[asked.command_id, asked.sha256()] = set(people[:-1])
        with pytest.raises(OutsideTheEnvelope, match=f"{wanted - 1} of {wanted} approvals"):
            assert_approved(asked, story)
    story.yes[asked.command_id, asked.sha256()] = set(people)
    assert assert_approved(asked, story) == wanted
