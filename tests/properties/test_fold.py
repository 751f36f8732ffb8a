"""The fold takes any log: whatever was recorded, reading it again cannot fail."""

from typing import get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cell import CellState, apply
from agent.effects import outstanding
from agent.step import step
from schemas.facts import Detected, External, decode, encode
from tests.support.arbitrary import FACT_TYPES, facts_of
from tests.support.builders import detected, started
from tests.support.demo import CELL, demo_rules

SLOW = settings(
    max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@SLOW
@given(st.lists(facts_of(*FACT_TYPES), max_size=20))
def test_the_fold_is_total_and_the_same_from_stored_bytes(sequence):
    state = stored = CellState(CELL)
    for fact in sequence:
        state = apply(state, fact)
        stored = apply(stored, decode(encode(fact)))
        assert stored == state
        assert encode(decode(encode(fact))) == encode(fact)
    wishes = outstanding(state, demo_rules().policy)
    assert outstanding(stored, demo_rules().policy) == wishes


@SLOW
@given(st.lists(facts_of(*get_args(External), *get_args(Detected)), max_size=20))
def test_the_step_takes_any_sequence_from_outside(sequence):
    state = folded = CellState(CELL)
    for fact in (started(), detected(), *sequence):
        stepped = step(state, fact, demo_rules())
        for each in (fact, *stepped.facts):
            folded = apply(folded, decode(encode(each)))
        state = stepped.state
        assert folded == state
        assert step(state, fact, demo_rules()) == step(state, fact, demo_rules())
