"""Every rule of the guard on both sides of each edge: a passing question differs from a refused one in one thing."""

from __future__ import annotations

import math

import pytest

from agent.guard.approval import approvals_needed
from agent.guard.check import RULES, check
from agent.guard.interlocks import snapshot_tags
from agent.incident import ON_ITS_WAY, Sent
from schemas.catalogue import Condition, Postcondition
from schemas.plant import Cell
from tests.support.builders import ENABLED, SECOND, START, command, reading, readings
from tests.support.demo import demo_rules, with_action, with_autonomy, with_policy
from tests.support.guarded import ask, other, refused_by, verdict

INF, NAN = math.inf, math.nan
HOUR = 3600 * SECOND
RULE_NAMES = [
    "scope", "mode", "off_switch", "freshness.evidence", "freshness.decision", "freshness.source", "freshness.snapshot",
    "interlock.permissives", "interlock.state", "interlock.preconditions", "interlock.data_quality", "arguments",
    "range", "step", "setpoint.moved", "robot.busy", "interaction.exclusive", "interaction.verifying",
    "budget.cooldown", "budget.per_hour", "budget.oscillation", "risk_class", "autonomy", "approvals", "idempotency",
]  # fmt: skip
NEED_THE_SNAPSHOT = {
    "off_switch", "freshness.snapshot", "interlock.permissives", "interlock.state", "interlock.preconditions",
    "setpoint.moved",
}  # fmt: skip


def up(value: float) -> float:
    return math.nextafter(value, INF)


def down(value: float) -> float:
    return math.nextafter(value, -INF)


# ---------------------------------------------------------------- the guard as a whole


@pytest.mark.parametrize("action", [a.name for a in demo_rules().catalogue.actions])
def test_the_question_that_the_other_tests_change_is_permitted(action):
    judged = check(ask(action))
    assert [v.rule for v in judged.verdicts] == RULE_NAMES
    assert ({v.result for v in judged.verdicts}, judged.decision, judged.retry) == ({"passed"}, "permitted", False)


def test_every_rule_is_asked_and_recorded_even_when_the_first_refuses():
    judged = check(ask("set_motion_speed", robot="drive", state={"mode": "observe"}))
    assert [v.rule for v in judged.verdicts] == RULE_NAMES
    assert [v.rule for v in judged.verdicts if v.result == "refused"] == ["scope", "mode"]


def test_at_the_proposal_exactly_the_rules_of_the_snapshot_are_deferred():
    judged = check(ask(stage="proposal"))
    assert {v.rule for v in judged.verdicts if v.result == "deferred"} == NEED_THE_SNAPSHOT
    assert judged.decision == "permitted"


def test_a_deferred_verdict_at_dispatch_refuses():
    """Deny by default: a question for dispatch without a snapshot."""
    question = ask()
    without = type(question)(**{**{n: getattr(question, n) for n in question.__slots__}, "snapshot": None})
    judged = check(without)
    assert [v.result for v in judged.verdicts].count("deferred") == len(NEED_THE_SNAPSHOT)
    assert (judged.decision, judged.retry) == ("refused", False)


def test_an_action_outside_the_catalogue_is_refused_by_every_rule_that_needs_it():
    question = ask("release_estop", approvers=("anna", "ben"))
    assert refused_by(question) == [
        "scope", "interlock.state", "interlock.preconditions", "arguments", "step", "setpoint.moved",
        "budget.cooldown", "budget.per_hour", "budget.oscillation", "risk_class",
    ]  # fmt: skip
    assert approvals_needed(question) == 2
    assert check(ask("release_estop", stage="proposal")).decision == "refused"


def test_the_judgement_names_the_command_and_its_hash():
    question = ask()
    judged = check(question)
    assert (judged.command_id, judged.command_sha256) == ("c1", question.command.sha256())
    assert (judged.at, judged.stage, judged.approvals, judged.risk_class) == (START, "dispatch", 0, "B")


def test_a_refusal_is_tried_again_only_if_every_reason_passes_by_itself():
    busy = (other("set_grip_force", "intended"),)
    assert check(ask(others=busy)).retry is True
    assert check(ask(others=busy, off_file=True)).retry is False
    assert check(ask(off_file=True)).retry is False


def test_the_decision_at_the_proposal_needs_a_person_only_where_approvals_do():
    assert check(ask("clean_pads", stage="proposal", approvers=())).decision == "needs_approval"
    assert check(ask("clean_pads", stage="dispatch", approvers=())).decision == "refused"
    assert check(ask("clean_pads", stage="proposal", state={"mode": "observe"})).decision == "refused"


# ---------------------------------------------------------------- one rule, one change

CASES = [
    # (rule, refused, question)
    ("scope", True, ask(robot="drive")),
    ("scope", True, ask(verb="CleanPads")),
    ("scope", True, ask(robot="drive", verb="CleanPads")),
    ("mode", True, ask(state={"mode": "observe"})),
    ("off_switch", True, ask(state={"automation_on": False})),
    ("off_switch", True, ask(state={"automation_on": False}, stage="proposal")),
    ("off_switch", True, ask(off_file=True)),
    ("off_switch", True, ask(read=readings(agent_enable=0.0))),
    ("off_switch", True, ask(read=readings(agent_enable=up(1.0)))),
    ("off_switch", True, ask(read=readings(agent_enable=None))),
    ("off_switch", True, ask(read={**readings(), "agent_enable": reading(1.0, status=0x80000000)})),
    ("freshness.source", True, ask(state={"source_alive": False})),
    # evidence: -2 .. 60 s
    ("freshness.evidence", False, ask(stage="proposal", evidence_at=START - 60 * SECOND)),
    ("freshness.evidence", True, ask(stage="proposal", evidence_at=START - 60 * SECOND - 1)),
    ("freshness.evidence", False, ask(stage="proposal", evidence_at=START + 2 * SECOND)),
    ("freshness.evidence", True, ask(stage="proposal", evidence_at=START + 2 * SECOND + 1)),
    ("freshness.evidence", False, ask(stage="dispatch", evidence_at=START - 3600 * SECOND)),
    ("freshness.evidence", False, ask(stage="proposal", evidence_at=None)),
    ("freshness.evidence", False, ask(stage="proposal", evidence_at=START - HOUR, origin="fallback")),
    ("freshness.evidence", False, ask(stage="proposal", evidence_at=START - HOUR, origin="compensation")),
    ("freshness.evidence", True, ask(stage="proposal", evidence_at=START - HOUR, origin="operator")),
    # snapshot: 0 .. 2 s
    ("freshness.snapshot", False, ask(read_at=START - 10 * SECOND)),
    ("freshness.snapshot", True, ask(read_at=START - 10 * SECOND - 1)),
    ("freshness.snapshot", True, ask(read_at=START + 1)),
    ("freshness.snapshot", True, ask(read={})),
    ("freshness.snapshot", False, ask(read={**readings(), "grip_force_sp_n": reading(None)})),
    ("freshness.snapshot", True, ask(read={**readings(), "motion_speed_sp_pct": reading(NAN)})),
    ("freshness.snapshot", True, ask(read={**readings(), "motion_speed_sp_pct": reading(INF)})),
    ("freshness.snapshot", True, ask(read={**readings(), "motion_speed_sp_pct": reading(100.0, status=0x40000000)})),
    ("freshness.snapshot", False, ask(read={**readings(), "motion_speed_sp_pct": reading(100.0, status=0x00000400)})),
    ("freshness.snapshot", False, ask(read={**readings(), "estop_ok": reading(1.0, at=START + 2 * SECOND)})),
    ("freshness.snapshot", True, ask(read={**readings(), "estop_ok": reading(1.0, at=START + 2 * SECOND + 1)})),
    ("freshness.snapshot", False, ask(read={**readings(), "estop_ok": reading(1.0, at=0)})),
    ("interlock.state", True, ask(read=readings(packml_state=11.0))),
    ("interlock.state", True, ask(read=readings(packml_state=6.5))),
    ("interlock.state", True, ask(read=readings(packml_state=None))),
    ("interlock.state", True, ask(read={**readings(), "packml_state": reading(6.0, status=0x80000000)})),
    ("interlock.state", False, ask("hold_cell", read=readings(packml_state=5.0))),
    ("interlock.state", True, ask("hold_cell", read=readings(packml_state=9.0))),
    ("interlock.data_quality", True, ask(distrusted=("lift_current_a", "stuck"))),
    ("interlock.data_quality", True, ask(distrusted=("lift_current_a", "stale"), stage="proposal")),
    ("interlock.data_quality", False, ask(distrusted=("lift_current_a", "limit"))),
    ("interlock.data_quality", False, ask(distrusted=("part_slip_mm", "quality"))),
    ("interlock.data_quality", False, ask("hold_cell", origin="fallback", distrusted=("packml_state", "quality"))),
    ("interlock.data_quality", True, ask("hold_cell", distrusted=("packml_state", "quality"))),
    ("arguments", True, ask(args={})),
    ("arguments", True, ask(args={"motion_speed_pct": 50.0, "also": 1.0})),
    ("arguments", True, ask(args={"speed": 50.0})),
    ("arguments", True, ask("clean_pads", args={"force": 1.0})),
    # set_motion_speed: 20 .. 100, one step of 60
    ("range", False, ask(args={"motion_speed_pct": 20.0})),
    ("range", True, ask(args={"motion_speed_pct": down(20.0)})),
    ("range", False, ask(args={"motion_speed_pct": 100.0})),
    ("range", True, ask(args={"motion_speed_pct": up(100.0)})),
    ("range", True, ask(args={"motion_speed_pct": NAN})),
    ("range", True, ask(args={"motion_speed_pct": INF})),
    ("range", True, ask(args={"motion_speed_pct": -INF})),
    ("range", True, ask(args={"also": 50.0})),
    ("range", True, ask("clean_pads", args={"force": 0.0})),
    ("step", False, ask(args={"motion_speed_pct": 40.0})),
    ("step", True, ask(args={"motion_speed_pct": down(40.0)})),
    ("step", False, ask(args={"motion_speed_pct": 90.0}, from_values={"motion_speed_pct": 30.0})),
    ("step", True, ask(args={"motion_speed_pct": up(90.0)}, from_values={"motion_speed_pct": 30.0})),
    ("step", True, ask(args={"motion_speed_pct": NAN})),
    ("step", True, ask(from_values={"motion_speed_pct": NAN})),
    ("step", True, ask(from_values={"motion_speed_pct": INF}, args={"motion_speed_pct": INF})),
    ("step", True, ask(from_values={})),
    ("step", True, ask(args={})),
    ("setpoint.moved", False, ask(read=readings(motion_speed_sp_pct=100.0 + 5e-7))),
    ("setpoint.moved", True, ask(read=readings(motion_speed_sp_pct=100.0 + 2e-6))),
    ("setpoint.moved", True, ask(read=readings(motion_speed_sp_pct=100.0 - 2e-6))),
    ("setpoint.moved", True, ask(read=readings(motion_speed_sp_pct=None))),
    ("setpoint.moved", True, ask(read={**readings(), "motion_speed_sp_pct": reading(100.0, status=0x80000000)})),
    ("setpoint.moved", True, ask(read={})),
    ("setpoint.moved", True, ask(from_values={})),
    ("setpoint.moved", True, ask(read=readings(motion_speed_sp_pct=50.0))),
    ("setpoint.moved", False, ask(read=readings(motion_speed_sp_pct=50.0), attempt=2)),
    ("setpoint.moved", False, ask(attempt=2)),
    ("setpoint.moved", True, ask(read=readings(motion_speed_sp_pct=70.0), attempt=2)),
    ("setpoint.moved", True, ask(read=readings(motion_speed_sp_pct=50.0 + 2e-6), attempt=2)),
    ("setpoint.moved", True, ask(read=readings(motion_speed_sp_pct=50.0), attempt=2, args={})),
    ("robot.busy", False, ask(others=(other("set_conveyor_speed", "intended"),))),
    ("robot.busy", False, ask(phase="intended")),
    ("interaction.exclusive", False, ask("clean_pads", others=(other("set_motion_speed", "verifying"),))),
    ("interaction.exclusive", True, ask("clean_pads", others=(other("set_grip_force", "verifying"),))),
    ("interaction.exclusive", True, ask("clean_pads", others=(other("set_grip_force", "reading_back"),))),
    ("interaction.exclusive", False, ask("clean_pads", others=(other("set_grip_force", "awaiting_approval"),))),
    ("interaction.exclusive", False, ask("clean_pads", others=(other("set_grip_force", "ended"),))),
    ("interaction.exclusive", False, ask("clean_pads", others=(other("gone", "intended"),))),
    ("interaction.verifying", True, ask("clean_pads", others=(other("set_grip_force", "verifying"),))),
    ("interaction.verifying", False, ask("clean_pads", others=(other("set_grip_force", "reading_back"),))),
    ("interaction.verifying", False, ask("set_grip_force", others=(other("set_motion_speed", "verifying"),))),
    ("interaction.verifying", True, ask("set_motion_speed", others=(
        other("set_motion_speed", "verifying", command_id="c2"),
    ))),
    ("interaction.verifying", False, ask("clean_pads", others=(other("gone", "verifying"),))),
    ("interaction.verifying", False, ask("set_grip_force", origin="compensation", others=(
        other("clean_pads", "verifying"),
    ))),
    ("interaction.verifying", False, ask("release_estop", others=(other("set_grip_force", "verifying"),))),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "refuses", "question"), CASES)
def test_a_rule_at_its_edges(rule, refuses, question):
    found = verdict(question, rule)
    assert found.result == ("refused" if refuses else "passed")
    assert found.reason or not refuses
    assert check(question).decision == "refused" or not refuses


def test_every_rule_has_a_case_that_refuses_and_one_that_passes():
    """Those that the tables below cover are listed here by hand."""
    elsewhere = {
        "interlock.permissives", "interlock.preconditions", "robot.busy", "budget.cooldown", "budget.per_hour",
        "budget.oscillation", "risk_class", "autonomy", "approvals", "idempotency", "freshness.decision",
    }  # fmt: skip
    assert {rule for rule, refuses, _ in CASES if refuses} | elsewhere == set(RULE_NAMES)
    assert len(RULES) == len(RULE_NAMES)


@pytest.mark.parametrize("tag", ["remote_enable", "estop_ok", "automatic_mode"])
@pytest.mark.parametrize("value", [0.0, up(1.0), down(1.0), NAN, None])
def test_each_permissive_must_read_exactly_as_it_must(tag, value):
    assert "interlock.permissives" in refused_by(ask(read=readings(**{tag: value})))
    bad = {**readings(), tag: reading(1.0, status=0x80000000)}
    assert "interlock.permissives" in refused_by(ask(read=bad))
    missing = {key: r for key, r in readings().items() if key != tag}
    assert {"interlock.permissives", "freshness.snapshot"} <= set(refused_by(ask(read=missing)))


@pytest.mark.parametrize("number", range(18))
def test_an_action_runs_in_its_states_and_in_no_other(number):
    read = readings(packml_state=float(number))
    assert ("interlock.state" not in refused_by(ask(read=read))) is (number == 6)
    assert ("interlock.state" not in refused_by(ask("hold_cell", read=read))) is (number in {5, 6, 10, 12, 13, 14})


def test_a_cell_without_a_packml_state_has_no_state_to_judge():
    rules = demo_rules()
    tags = [t.model_dump() for t in rules.cell.tags if t.role != "state"]
    cell = Cell.model_validate({**rules.cell.model_dump(), "tags": tags})
    without = type(rules)(cell, rules.catalogue, rules.policy)
    assert verdict(ask(rules=without, read={}), "interlock.state").result == "passed"


@pytest.mark.parametrize(
    ("comparator", "holds"),
    [("lt", (True, False, False)), ("le", (True, True, False)), ("gt", (False, False, True)),
     ("ge", (False, True, True)), ("eq", (False, True, False))],
)  # fmt: skip
def test_a_precondition_holds_on_the_right_side_of_its_edge(comparator, holds):
    condition = Condition(tag="cycle_time_s", comparator=comparator, value=4.0)
    rules = with_action(demo_rules(), "clean_pads", preconditions=[condition.model_dump()])
    for value, expected in zip((down(4.0), 4.0, up(4.0)), holds, strict=True):
        question = ask("clean_pads", rules=rules, read=readings(cycle_time_s=value))
        assert ("interlock.preconditions" not in refused_by(question)) is expected
    for bad in (reading(None), reading(NAN), reading(3.0, status=0x80000000), reading(5.0, status=0x80000000)):
        question = ask("clean_pads", rules=rules, read={**readings(), "cycle_time_s": bad})
        assert {"interlock.preconditions", "freshness.snapshot"} <= set(refused_by(question))
    assert "interlock.preconditions" in refused_by(ask("clean_pads", rules=rules))


def test_a_snapshot_must_hold_exactly_what_the_rules_read():
    rules = demo_rules()
    action = rules.catalogue.action("set_grip_force")
    assert snapshot_tags(rules.cell, action) == [
        "remote_enable", "estop_ok", "automatic_mode", "agent_enable", "packml_state", "grip_force_sp_n",
    ]  # fmt: skip
    assert snapshot_tags(rules.cell, None) == list(ENABLED)


def test_a_cell_without_a_switch_of_its_own_needs_none():
    rules = demo_rules()
    cell = rules.cell.model_copy(update={"enable_tag": ""})
    question = ask(rules=type(rules)(cell, rules.catalogue, rules.policy), read=readings(agent_enable=0.0))
    assert refused_by(question) == []
    assert snapshot_tags(cell, None) == ["remote_enable", "estop_ok", "automatic_mode", "packml_state"]


def test_a_robot_of_another_cell_is_out_of_scope():
    rules = demo_rules()
    robots = tuple(r for r in rules.cell.robots if r.id != "gripper")
    elsewhere = type(rules)(rules.cell.model_copy(update={"robots": robots}), rules.catalogue, rules.policy)
    assert verdict(ask(rules=elsewhere), "scope").reason.startswith("robot 'gripper' is not in")
    none = type(rules)(rules.cell.model_copy(update={"robots": ()}), rules.catalogue, rules.policy)
    assert verdict(ask(rules=none), "scope").result == "refused"


# ---------------------------------------------------------------- ranges meet


@pytest.mark.parametrize(
    ("policy", "tag_range", "value", "refuses"),
    [
        ((30.0, 80.0), (0.0, 100.0), 30.0, False),
        ((30.0, 80.0), (0.0, 100.0), down(30.0), True),
        ((30.0, 80.0), (0.0, 100.0), 80.0, False),
        ((30.0, 80.0), (0.0, 100.0), up(80.0), True),
        ((20.0, 100.0), (40.0, 60.0), 40.0, False),
        ((20.0, 100.0), (40.0, 60.0), down(40.0), True),
        ((20.0, 100.0), (40.0, 60.0), 60.0, False),
        ((20.0, 100.0), (40.0, 60.0), up(60.0), True),
    ],
)
def test_a_value_must_lie_in_catalogue_policy_and_tag_range_alike(policy, tag_range, value, refuses):
    limit = {"action": "set_motion_speed", "argument": "motion_speed_pct", "min": policy[0], "max": policy[1]}
    rules = with_policy(demo_rules(), limits=[limit])
    low, high = tag_range
    tags = [
        {**t.model_dump(), "range": {"low": low, "high": high}} if t.name == "motion_speed_sp_pct" else t.model_dump()
        for t in rules.cell.tags
    ]
    cell = Cell.model_validate({**rules.cell.model_dump(), "tags": tags})
    question = ask(rules=type(rules)(cell, rules.catalogue, rules.policy), args={"motion_speed_pct": value})
    assert (verdict(question, "range").result == "refused") is refuses


@pytest.mark.parametrize(
    ("action", "argument"), [("set_grip_force", "motion_speed_pct"), ("set_motion_speed", "grip_force_n")]
)
def test_a_limit_of_another_action_or_argument_narrows_nothing(action, argument):
    limit = {"action": action, "argument": argument, "min": 90.0, "max": 95.0}
    assert refused_by(ask(rules=with_policy(demo_rules(), limits=[limit]))) == []


def test_an_argument_whose_tag_the_cell_does_not_have_is_refused():
    rules = demo_rules()
    speed = rules.catalogue.action("set_motion_speed").args[0].model_dump()
    strange = with_action(rules, "set_motion_speed", args=[{**speed, "tag": "nowhere"}])
    assert "unknown tag" in verdict(ask(rules=strange), "range").reason


def test_without_a_largest_step_any_finite_step_will_do():
    speed = demo_rules().catalogue.action("set_motion_speed").args[0].model_dump()
    rules = with_action(demo_rules(), "set_motion_speed", args=[{**speed, "max_step": None}])
    assert verdict(ask(rules=rules, args={"motion_speed_pct": 20.0}), "step").result == "passed"
    assert verdict(ask(rules=rules, args={"motion_speed_pct": NAN}), "step").result == "refused"


# ---------------------------------------------------------------- interactions


@pytest.mark.parametrize("phase", sorted(ON_ITS_WAY))
def test_a_robot_with_a_command_on_its_way_takes_no_other(phase):
    busy = ask(others=(other("set_grip_force", phase),))
    assert refused_by(busy) == ["robot.busy"]
    assert f"set_grip_force {phase}" in verdict(busy, "robot.busy").reason


@pytest.mark.parametrize(
    "phase", ["proposed", "awaiting_approval", "awaiting_snapshot", "waiting", "verifying", "ended"]
)
def test_a_command_that_is_not_on_its_way_does_not_make_its_robot_busy(phase):
    assert verdict(ask(others=(other("set_grip_force", phase),)), "robot.busy").result == "passed"


@pytest.mark.parametrize("phase", sorted(ON_ITS_WAY))
def test_at_the_proposal_what_passes_by_itself_is_left_to_the_dispatch(phase):
    others = (other("set_grip_force", phase),)
    expected = "refused" if phase == "unresolved" else "deferred"
    assert verdict(ask(stage="proposal", others=others), "robot.busy").result == expected
    assert verdict(ask("clean_pads", stage="proposal", others=others), "interaction.exclusive").result == expected


def test_at_the_proposal_a_proof_in_progress_is_left_to_the_dispatch():
    question = ask("clean_pads", stage="proposal", others=(other("set_grip_force", "verifying"),))
    assert verdict(question, "interaction.verifying").result == "deferred"
    assert check(question).decision == "needs_approval"


def test_exclusion_works_from_either_side():
    rules = with_action(demo_rules(), "clean_pads", exclusive_with=())
    one_sided = with_action(rules, "change_pads", exclusive_with=())
    mine = ask("set_grip_force", rules=one_sided, others=(other("clean_pads", "verifying"),))
    theirs = ask("clean_pads", rules=one_sided, others=(other("set_grip_force", "verifying"),))
    neither = ask("clean_pads", rules=one_sided, others=(other("change_pads", "verifying"),))
    assert [verdict(q, "interaction.exclusive").result for q in (mine, theirs, neither)] == [
        "refused", "refused", "passed",
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["moves", "argument", "postcondition", "nothing"])
def test_nothing_disturbs_the_proof_of_another_command(by):
    tags = {"moves": "lift_peak_a", "argument": "motion_speed_sp_pct", "postcondition": "lift_current_a",
            "nothing": "drive_current_a"}  # fmt: skip
    proof = Postcondition(tag=tags[by], comparator="lt", value=1.0, for_cycles=1, within_s=10.0)
    rules = with_action(demo_rules(), "change_pads", postcondition=proof.model_dump(), exclusive_with=())
    question = ask("set_motion_speed", rules=rules, others=(other("change_pads", "verifying"),))
    assert verdict(question, "interaction.verifying").result == ("passed" if by == "nothing" else "refused")


def test_an_action_that_proves_nothing_disturbs_and_is_disturbed_only_by_what_it_moves():
    rules = with_action(demo_rules(), "clean_pads", postcondition=None, exclusive_with=())
    rules = with_action(rules, "change_pads", exclusive_with=())
    mine = ask("clean_pads", rules=rules, others=(other("change_pads", "verifying"),))
    theirs = ask("change_pads", rules=rules, others=(other("clean_pads", "verifying"),))
    assert [verdict(q, "interaction.verifying").result for q in (mine, theirs)] == ["passed", "passed"]
    assert verdict(mine, "interlock.data_quality").result == "passed"


# ---------------------------------------------------------------- budgets


def sent(seconds_ago: float, action: str = "set_motion_speed", direction: int = -1) -> Sent:
    return Sent(START - round(seconds_ago * SECOND), action, "gripper", direction)


def sent_us(us_ago: int, action: str = "set_motion_speed") -> Sent:
    return Sent(START - us_ago, action, "gripper", -1)


BUDGETS = [
    # set_motion_speed: cool-down 30 s, 4 an hour
    ("budget.cooldown", False, ask(history=(sent_us(30 * SECOND),))),
    ("budget.cooldown", True, ask(history=(sent_us(30 * SECOND - 1),))),
    ("budget.cooldown", True, ask(history=(sent_us(60 * SECOND), sent_us(1), sent_us(40 * SECOND)))),
    ("budget.cooldown", True, ask(history=(sent_us(-5 * SECOND),))),
    ("budget.cooldown", False, ask(history=(sent_us(1, "set_grip_force"),))),
    ("budget.cooldown", False, ask(history=(sent_us(1),), attempt=2)),
    ("budget.cooldown", False, ask("hold_cell", history=(sent_us(1, "hold_cell"),))),
    ("budget.cooldown", False, ask("set_grip_force", origin="compensation", history=(sent_us(1, "set_grip_force"),))),
    ("budget.per_hour", False, ask(history=(sent(100), sent(200), sent(300)))),
    ("budget.per_hour", True, ask(history=(sent(100), sent(200), sent(300), sent(400)))),
    ("budget.per_hour", True, ask(history=(sent_us(HOUR - 1), sent(200), sent(300), sent(400)))),
    ("budget.per_hour", False, ask(history=(sent_us(HOUR), sent(200), sent(300), sent(400)))),
    ("budget.per_hour", False, ask(history=tuple(sent(100, "set_grip_force") for _ in range(4)))),
    ("budget.per_hour", False, ask(history=tuple(sent(100, "set_grip_force") for _ in range(19)))),
    ("budget.per_hour", True, ask(history=tuple(sent(100, "set_grip_force") for _ in range(20)))),
    ("budget.per_hour", False, ask(history=tuple(sent(100) for _ in range(30)), attempt=2)),
    ("budget.per_hour", False, ask("hold_cell", origin="fallback", history=tuple(
        sent(100, "hold_cell") for _ in range(30)
    ))),
    # two reversals an hour; the question goes down
    ("budget.oscillation", False, ask(history=(sent(300, direction=-1), sent(200, direction=1)))),
    ("budget.oscillation", True, ask(history=tuple(sent(400 - 100 * n, direction=d) for n, d in
                                                   enumerate((1, -1, 1))))),
    ("budget.oscillation", False, ask(history=tuple(sent(400 - 100 * n, direction=-1) for n in range(3)))),
    ("budget.oscillation", True, ask(history=tuple(sent(400 - 100 * n, direction=d) for n, d in
                                                    enumerate((1, 0, -1, 0, 1))))),
    ("budget.oscillation", False, ask(history=tuple(sent(400 - 100 * n, "set_grip_force", d) for n, d in
                                                    enumerate((1, -1, 1))))),
    ("budget.oscillation", False, ask(history=tuple(sent(400 - 100 * n, direction=d) for n, d in
                                                    enumerate((1, -1, 1))), attempt=2)),
    ("budget.oscillation", False, ask("set_grip_force", origin="compensation", history=tuple(
        sent(400 - 100 * n, "set_grip_force", d) for n, d in enumerate((-1, 1, -1))
    ))),
    ("budget.oscillation", False, ask("clean_pads", history=tuple(
        sent(400 - 100 * n, "clean_pads", d) for n, d in enumerate((1, -1, 1))
    ))),
    ("budget.oscillation", False, ask(args={"motion_speed_pct": 100.0}, history=tuple(
        sent(400 - 100 * n, direction=d) for n, d in enumerate((1, -1, 1))
    ))),
    ("budget.oscillation", True, ask(args={"motion_speed_pct": 90.0}, from_values={"motion_speed_pct": 50.0},
                                     history=tuple(sent(400 - 100 * n, direction=d) for n, d in
                                                   enumerate((-1, 1, -1))))),
    ("budget.oscillation", False, ask(args={"motion_speed_pct": 100.0}, history=tuple(
        sent(400 - 100 * n, direction=d) for n, d in enumerate((-1, 1, -1))
    ))),
    ("budget.oscillation", True, ask(args={})),
    ("budget.oscillation", True, ask(from_values={})),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "refuses", "question"), BUDGETS)
def test_a_budget_at_its_edges(rule, refuses, question):
    found = verdict(question, rule)
    assert found.result == ("refused" if refuses else "passed")
    assert check(question).decision == "refused" or not refuses


# ---------------------------------------------------------------- class, autonomy, approvals

UPWARDS = {"args": {"motion_speed_pct": 100.0}, "from_values": {"motion_speed_pct": 50.0}}


@pytest.mark.parametrize(
    ("question", "risk"),
    [
        (ask(), "B"),
        (ask(args={"motion_speed_pct": 100.0}), "B"),
        (ask(args={"motion_speed_pct": up(100.0)}), "D"),
        (ask(**UPWARDS), "D"),
        (ask("set_grip_force"), "C"),
        (ask("set_grip_force", args={"grip_force_n": 25.0}), "B"),
        (ask("clean_pads"), "C"),
        (ask("hold_cell"), "B"),
        (ask(from_values={}), "D"),
        (ask(args={}), "D"),
        (ask(args={"motion_speed_pct": NAN}), "D"),
        (ask("release_estop"), "D"),
    ],
)
def test_the_class_is_that_of_the_direction_asked_for(question, risk):
    assert question.risk_class() == risk


def test_towards_safe_may_also_be_upwards():
    rules = with_action(demo_rules(), "set_grip_force", effect_direction="increase")
    classes = [
        ask("set_grip_force", rules=rules, args={"grip_force_n": n}).risk_class() for n in (25.0, down(25.0), up(25.0))
    ]
    assert classes == ["B", "C", "B"]


def test_class_d_is_refused_with_any_number_of_approvals():
    assert refused_by(ask(**UPWARDS, approvers=("anna", "ben", "cem"), read=readings(motion_speed_sp_pct=50.0))) == [
        "risk_class"
    ]


@pytest.mark.parametrize(
    ("origin", "rule"), [("compensation", ["risk_class"]), ("fallback", ["risk_class"]), ("plan", [])]
)
def test_a_way_back_to_safe_is_class_b_or_nothing(origin, rule):
    assert refused_by(ask("clean_pads", origin=origin)) == rule
    assert refused_by(ask("hold_cell", origin=origin)) == []


@pytest.mark.parametrize(
    ("level", "refused"), [("observe", True), ("advise", True), ("approve", False), ("auto", False)]
)
def test_observed_and_advised_actions_are_never_sent(level, refused):
    question = ask(rules=with_autonomy(demo_rules(), "set_motion_speed", level))
    assert (refused_by(question) == ["autonomy"]) is refused


def test_an_action_that_the_policy_does_not_name_has_the_default_autonomy():
    rules = with_policy(demo_rules(), actions=(), default_autonomy="advise")
    assert refused_by(ask(rules=rules)) == ["autonomy"]


@pytest.mark.parametrize(
    ("action", "level", "catalogue", "changes", "needed"),
    [
        ("set_motion_speed", "auto", 0, {}, 0),
        ("set_motion_speed", "approve", 0, {}, 1),
        ("set_motion_speed", "auto", 1, {}, 1),
        ("set_motion_speed", "auto", 2, {}, 2),
        ("set_motion_speed", "auto", 0, UPWARDS, 2),
        ("clean_pads", "approve", 0, {}, 1),
        ("clean_pads", "auto", 0, {}, 1),
        ("clean_pads", "approve", 2, {}, 2),
        ("hold_cell", "approve", 0, {}, 1),
        ("hold_cell", "approve", 0, {"origin": "operator"}, 0),
        ("hold_cell", "approve", 0, {"origin": "fallback"}, 0),
        ("clean_pads", "approve", 2, {"origin": "compensation"}, 0),
        ("set_motion_speed", "approve", 0, {"origin": "operator"}, 1),
    ],
)
def test_approvals_needed_are_the_most_of_class_catalogue_and_autonomy(action, level, catalogue, changes, needed):
    rules = with_autonomy(with_action(demo_rules(), action, approvals=catalogue), action, level)
    assert approvals_needed(ask(action, rules=rules, **changes)) == needed


def test_an_operators_hold_beyond_class_b_is_like_any_other_command():
    rules = with_autonomy(with_action(demo_rules(), "hold_cell", risk_class="C"), "hold_cell", "approve")
    assert approvals_needed(ask("hold_cell", rules=rules, origin="operator")) == 1


def test_class_a_needs_a_person_even_when_auto():
    """`auto` lifts class B only."""
    rules = with_action(demo_rules(), "hold_cell", risk_class="A")
    assert approvals_needed(ask("hold_cell", rules=rules)) == 1


@pytest.mark.parametrize(
    ("approvers", "enough"),
    [((), False), (("anna",), False), (("anna", "anna"), False), (("anna", "ben"), True), (("a", "b", "c"), True)],
)
def test_approvals_count_different_people(approvers, enough):
    rules = with_action(demo_rules(), "clean_pads", approvals=2)
    assert (refused_by(ask("clean_pads", rules=rules, approvers=approvers)) == []) is enough
    assert (
        verdict(ask("clean_pads", rules=rules, approvers=approvers, stage="proposal"), "approvals").result == "passed"
    )


# ---------------------------------------------------------------- idempotency


def test_a_command_is_what_its_hash_says():
    assert refused_by(ask(sha256=command(args={"motion_speed_pct": 51.0}).sha256())) == ["idempotency"]
    assert verdict(ask(sha256="0" * 64, stage="proposal"), "idempotency").result == "refused"


@pytest.mark.parametrize("phase", ["proposed", "awaiting_approval", "waiting", "intended", "querying", "ended"])
def test_only_a_command_that_waits_for_its_snapshot_is_sent(phase):
    assert "idempotency" in refused_by(ask(phase=phase))
    assert verdict(ask(phase=phase, stage="proposal"), "idempotency").result == "passed"


def test_a_command_that_the_cell_does_not_know_is_not_sent():
    assert refused_by(ask(state={"commands": {}})) == ["idempotency"]


@pytest.mark.parametrize(
    ("sent_before", "attempt", "refuses"), [(0, 1, False), (1, 1, True), (0, 2, True), (1, 2, False)]
)
def test_an_attempt_is_the_one_after_the_last(sent_before, attempt, refuses):
    question = ask(attempt=attempt)
    (progress,) = question.state.commands.values()
    known = type(progress)(progress.command, progress.sha256, phase="awaiting_snapshot", attempt=sent_before)
    again = ask(attempt=attempt, state={"commands": {"c1": known}})
    assert (refused_by(again) == ["idempotency"]) is refuses


def test_a_fourth_attempt_is_refused():
    assert refused_by(ask(attempt=3)) == []
    assert refused_by(ask(attempt=4)) == ["idempotency"]


# ---------------------------------------------------------------- what a mutated guard would get wrong


@pytest.mark.parametrize(("present", "refuses"), [(100.5, False), (up(100.5), True), (99.5, False), (down(99.5), True)])
def test_a_set_point_may_differ_by_exactly_its_tolerance(present, refuses):
    speed = demo_rules().catalogue.action("set_motion_speed").args[0].model_dump()
    rules = with_action(demo_rules(), "set_motion_speed", args=[{**speed, "tolerance": 0.5}])
    question = ask(rules=rules, read=readings(motion_speed_sp_pct=present))
    assert (refused_by(question) == ["setpoint.moved"]) is refuses
    done = ask(rules=rules, read=readings(motion_speed_sp_pct=present - 50.0), attempt=2)
    assert (refused_by(done) == ["setpoint.moved"]) is refuses


@pytest.mark.parametrize("value", [0.0, 1.0, 2.0])
def test_what_nobody_knows_has_no_range_in_which_it_is_allowed(value):
    assert verdict(ask("release_estop", args={"x": value}), "range").result == "refused"
    speed = demo_rules().catalogue.action("set_motion_speed").args[0].model_dump()
    rules = with_action(demo_rules(), "set_motion_speed", args=[{**speed, "min": 0.0, "tag": "nowhere"}])
    assert "unknown tag" in verdict(ask(rules=rules, args={"motion_speed_pct": value}), "range").reason


def test_an_action_without_a_postcondition_needs_no_believable_tag():
    rules = with_action(demo_rules(), "clean_pads", postcondition=None)
    assert refused_by(ask("clean_pads", rules=rules, distrusted=("part_slip_mm", "stuck"))) == []


@pytest.mark.parametrize(
    ("rule", "question", "words"),
    [
        ("freshness.snapshot", ask(read={**readings(), "estop_ok": reading(1.0, at=START + 3 * SECOND)}),
         "estop_ok is 3.0 s in the future"),
        ("freshness.snapshot", ask(read_at=START - 11 * SECOND), "snapshot is 11.000 s old, allowed are 0..10 s"),
        ("freshness.snapshot", ask(read={**readings(), "estop_ok": reading(1.0, status=0x80340000)}),
         "estop_ok is not good: status 0x80340000"),
        ("freshness.evidence", ask(stage="proposal", evidence_at=START - 61 * SECOND),
         "evidence is 61.0 s old, allowed are -2..60 s"),
        ("range", ask(args={"motion_speed_pct": 400.0}), "motion_speed_pct 400 is outside 20..100 (catalogue)"),
        ("step", ask(args={"motion_speed_pct": 30.0}), "from 100 to 30 is more than one step of 60"),
        ("budget.cooldown", ask(history=(sent(10),)), "was sent 10.0 s ago, cool-down 30 s"),
        ("budget.per_hour", ask(history=tuple(sent(100 + n) for n in range(4))), "sent 4 times within the hour"),
        ("budget.oscillation", ask(history=tuple(sent(400 - 100 * n, direction=d) for n, d in enumerate((1, -1, 1)))),
         "would change direction 3 times within the hour"),
        ("approvals", ask("clean_pads", approvers=()), "0 of 1 approvals"),
        ("interlock.permissives", ask(read=readings(estop_ok=0.0)), "estop_ok is not 1"),
        ("interlock.state", ask(read=readings(packml_state=11.0)), "PackML state 11.0 is none of EXECUTE"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_found_and_what_is_allowed(rule, question, words):
    assert words in verdict(question, rule).reason


@pytest.mark.parametrize(
    ("age_us", "refused"),
    [(0, False), (300 * SECOND, False), (300 * SECOND + 1, True), (-1, True), (3 * 86_400 * SECOND, True)],
)
def test_what_was_decided_too_long_ago_is_not_sent(age_us, refused):
    judged = check(ask(decided_at=START - age_us))
    assert (judged.decision == "refused") is refused
    assert ("freshness.decision" in [v.rule for v in judged.verdicts if v.result == "refused"]) is refused


def test_an_action_that_is_not_idempotent_is_sent_once_even_if_it_was_never_seen():
    rules = with_action(demo_rules(), "set_motion_speed", idempotent=False)
    known = ask(rules=rules, attempt=2)
    refusals = [v.rule for v in check(known).verdicts if v.result == "refused"]
    assert refusals == ["idempotency"]
    assert check(ask(attempt=2)).decision == "permitted"
