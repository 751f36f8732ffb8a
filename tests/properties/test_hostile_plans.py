"""Ten thousand random plans of a hostile reasoner; `python -m tests.support.hostile` runs any number."""

import pytest

from tests.support.builders import SETPOINTS, command
from tests.support.demo import demo_rules
from tests.support.hostile import OutsideTheEnvelope, assert_inside, hostile_plans

PLANS = 10_000


def test_no_plan_of_a_hostile_reasoner_leads_outside_the_envelope():
    counts = hostile_plans(PLANS, seed=1)
    assert counts["plans"] == counts["usable"] + counts["unusable"] == PLANS
    assert counts["permitted"] > PLANS // 50
    assert counts["refused"] > PLANS // 50
    for rule in ("range", "step", "risk_class"):
        assert counts[f"refused.{rule}"] > 0


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
