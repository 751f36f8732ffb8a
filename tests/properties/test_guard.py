"""The guard never permits what the configuration does not allow, whatever it is asked."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.guard.check import check
from agent.guard.question import Question
from schemas.catalogue import Action
from schemas.commands import Reading
from tests.support.builders import ENABLED, SECOND, SETPOINTS, START, command, readings
from tests.support.demo import demo_rules, with_policy
from tests.support.guarded import ask

LIMIT = {"action": "set_grip_force", "argument": "grip_force_n", "min": 12.0, "max": 45.0}
RULES = with_policy(demo_rules(), limits=[LIMIT])
ACTIONS = {action.name: action for action in RULES.catalogue.actions}
EDGES = [
    edge
    for action in ACTIONS.values()
    for a in action.args
    for edge in (a.min, a.max, a.max_step or 0.0, math.nextafter(a.min, -math.inf), math.nextafter(a.max, math.inf))
] + [12.0, 45.0, math.nextafter(45.0, 50.0)]
NUMBERS = st.one_of(
    st.floats(0, 110), st.sampled_from(EDGES), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf])
)
AGES_US = st.one_of(st.integers(0, 10 * SECOND), st.sampled_from([-1, 10 * SECOND + 1, 10**9]))


ASPECTS = ("args", "from", "names", "robot", "origin", "read", "age", "off", "state", "approvers", "attempt")
"""What may be anything; all else is as it should be, so that a good share is permitted."""


@st.composite
def read(draw: st.DrawFn, setpoints: dict[str, float]) -> dict[str, Reading]:
    """A snapshot with one or two things wrong."""
    values = readings(START, **setpoints)
    for tag in draw(st.lists(st.sampled_from([*ENABLED, *SETPOINTS]), min_size=1, max_size=2)):
        number = draw(st.none() | NUMBERS)
        status = draw(st.sampled_from([0, 0, 0x40000000, 0x80000000, 0x80340000]))
        source_at = START + draw(st.sampled_from([0, -(10**9), 2 * SECOND, 2 * SECOND + 1]))
        values[tag] = Reading(value=number, status=status, source_at=source_at, server_at=START)
    for tag in draw(st.lists(st.sampled_from(list(values)), max_size=1)):
        del values[tag]
    return values


@st.composite
def questions(draw: st.DrawFn) -> Question:
    wild = draw(st.sets(st.sampled_from(ASPECTS), max_size=3))
    name = draw(st.sampled_from([*ACTIONS, "release_estop"]))
    known = ACTIONS[name].args if name in ACTIONS else ()
    before = {a.name: draw(NUMBERS if "from" in wild else st.floats(a.min, a.max)) for a in known}
    sane = not wild & {"args", "from"}
    args = {a.name: draw(st.floats(a.min, before[a.name]) if sane else NUMBERS) for a in known}
    if "names" in wild:
        args = draw(st.dictionaries(st.sampled_from([*args, "also"]), NUMBERS, max_size=2))
    setpoints = {a.tag: before[a.name] for a in known}
    shape = {"origin": "plan"}
    if "origin" in wild:
        shape["origin"] = draw(st.sampled_from(["operator", "compensation", "fallback"]))
    if "robot" in wild:
        shape["robot"] = draw(st.sampled_from(["gripper", "drive", "cell", ""]))
    state = {
        "mode": draw(st.sampled_from(["act", "observe"])),
        "automation_on": draw(st.booleans()),
        "source_alive": draw(st.booleans()),
    }
    people = draw(st.lists(st.sampled_from(["anna", "ben"]), max_size=3)) if "approvers" in wild else ["anna", "ben"]
    return ask(
        name,
        rules=RULES,
        command=command(name, args=args, from_values=before, **shape),
        read=draw(read(setpoints)) if "read" in wild else readings(START, **setpoints),
        read_at=START - (draw(AGES_US) if "age" in wild else 0),
        off_file="off" in wild,
        state=state if "state" in wild else {"mode": "act"},
        approvers=tuple(people),
        attempt=draw(st.sampled_from([1, 2, 3, 4])) if "attempt" in wild else 1,
    )


def allowed(q: Question) -> bool:
    """What the configuration says, written without the guard's own code."""
    action = ACTIONS.get(q.command.action)
    if action is None or q.snapshot is None or not _enabled(q, action):
        return False
    if q.command.robot != action.robot or set(q.command.args) != {a.name for a in action.args}:
        return False
    return all(_value_allowed(q, action, name) for name in q.command.args) and q.attempt <= 3


def _enabled(q: Question, action: Action) -> bool:
    assert q.snapshot is not None
    shown = q.snapshot.readings
    wanted = {"remote_enable": {1.0}, "estop_ok": {1.0}, "automatic_mode": {1.0}, "agent_enable": {1.0}}
    wanted["packml_state"] = {6.0, 5.0, 10.0, 12.0, 13.0, 14.0} if action.name == "hold_cell" else {6.0}
    for tag, values in wanted.items():
        if tag not in shown or not _sound(shown[tag]) or shown[tag].value not in values:
            return False
    in_time = 0 <= START - q.snapshot.read_at <= 10 * SECOND
    return (
        in_time and not q.snapshot.off_file and q.state.mode == "act" and q.state.automation_on and q.state.source_alive
    )


def _sound(reading: Reading) -> bool:
    finite = reading.value is not None and math.isfinite(reading.value)
    return finite and reading.status < 0x40000000 and reading.source_at <= START + 2 * SECOND


def _value_allowed(q: Question, action: Action, name: str) -> bool:
    assert q.snapshot is not None
    argument = action.argument(name)
    value, before, present = q.command.args[name], q.command.from_values[name], q.snapshot.readings.get(argument.tag)
    low, high = argument.min, argument.max
    if name == LIMIT["argument"]:
        low, high = max(low, LIMIT["min"]), min(high, LIMIT["max"])
    tag = RULES.cell.tag(argument.tag)
    low, high = max(low, tag.range.low), min(high, tag.range.high)
    if present is None or not _sound(present) or present.value is None:
        return False
    moved_by = min(abs(present.value - before), abs(present.value - value) if q.attempt > 1 else math.inf)
    step_max = math.inf if argument.max_step is None else argument.max_step
    return low <= value <= high and abs(value - before) <= step_max and moved_by <= argument.tolerance


def test_what_is_permitted_is_allowed_by_the_configuration():
    decisions = []

    @settings(max_examples=1500, deadline=None, database=None, derandomize=True)
    @given(questions())
    def judge(question: Question) -> None:
        judged = check(question)
        decisions.append(judged.decision)
        if judged.decision == "permitted":
            assert allowed(question), question
            assert judged.risk_class != "D"
            assert len(set(question.approvers)) >= judged.approvals
        assert (judged.decision == "refused") == any(v.result != "passed" for v in judged.verdicts)

    judge()
    assert decisions.count("permitted") > 150
    assert decisions.count("refused") > 150
    assert decisions.count("needs_approval") == 0, "at dispatch nobody is asked any more"
