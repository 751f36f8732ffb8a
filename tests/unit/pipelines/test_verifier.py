"""The verifier: which rows prove an effect, and when it is given up."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from agent.cell import CellState
from agent.incident import CommandProgress
from pipelines.features.row import Row
from pipelines.verifier import Verifier, decode_watches
from schemas.commands import Command
from schemas.errors import CodecError
from schemas.facts import EffectAbsent, EffectVerified
from tests.support.demo import demo_rules

SECOND = 1_000_000
DONE_AT = 100 * SECOND
NAMES = tuple(tag.name for tag in demo_rules().cell.tags if tag.group == "cycle")


def state(action: str = "set_grip_force") -> CellState:
    command = Command("c1", "p1", "i1", "gripper", action, "V", {}, {}, "plan")
    return CellState("c", commands={"c1": CommandProgress(command, command.sha256(), "verifying", DONE_AT)})


def row(number: int, slip: float) -> Row:
    """The row of the n-th cycle, 3 s each; cycle 0 begins with the read-back."""
    values = np.full(len(NAMES), 0.0)
    values[NAMES.index("part_slip_mm")] = slip
    start = DONE_AT + 3 * SECOND * number
    n = len(NAMES)
    return Row(
        "cycle", NAMES, start, start + 3 * SECOND, values, np.ones(n, dtype=np.bool_), np.zeros(n, dtype=np.uint8), True
    )


def feed(slips: dict[int, float], until_s: float = 0.0) -> list[object]:
    rules = demo_rules()
    verifier, now = Verifier(rules.cell, rules.catalogue), state()
    verifier.follow(now)
    found: list[object] = []
    for number, slip in slips.items():
        each = row(number, slip)
        found += verifier.feed([each], each.end_at, now)
    if until_s:
        found += verifier.feed([], DONE_AT + int(until_s * SECOND), now)
    return found


def test_ten_good_cycles_in_a_row_prove_it_and_the_worst_of_them_is_told():
    (verified,) = feed({n: 0.1 * n for n in range(10)})
    assert isinstance(verified, EffectVerified)
    assert (verified.rows, verified.worst) == (10, 0.9)


def test_nine_do_not():
    assert feed(dict.fromkeys(range(9), 0.1)) == []


def test_a_cycle_that_began_before_the_read_back_proves_nothing():
    assert feed(dict.fromkeys(range(-1, 9), 0.1)) == []


@pytest.mark.parametrize("slip", [2.0, float("nan"), 25.0])
def test_one_cycle_at_the_limit_or_unseen_begins_the_count_anew(slip):
    slips = {**dict.fromkeys(range(19), 0.1), 9: slip}
    assert feed(slips) == []
    (verified,) = feed({**slips, 19: 0.1})
    assert verified.rows == 10


def test_it_is_given_up_after_its_time_and_not_before():
    assert feed({0: 25.0}, until_s=90.0) == []
    (absent,) = feed({0: 25.0}, until_s=90.000001)
    assert isinstance(absent, EffectAbsent)
    assert "part_slip_mm was not lt 2 for 10 rows within 90 s" in absent.reason


def test_its_memory_survives_a_snapshot():
    rules = demo_rules()
    first, second = Verifier(rules.cell, rules.catalogue), Verifier(rules.cell, rules.catalogue)
    first.follow(state())
    for number in range(5):
        first.feed([row(number, 0.1)], 0, state())
    second.restore(decode_watches(msgspec.msgpack.encode(first.snapshot())))
    found = [f for n in range(5, 10) for f in second.feed([row(n, 0.1)], 0, state())]
    assert [f.rows for f in found] == [10]


def test_a_snapshot_of_something_else_is_refused():
    with pytest.raises(CodecError, match="not a verifier snapshot"):
        decode_watches(b"\xff")
