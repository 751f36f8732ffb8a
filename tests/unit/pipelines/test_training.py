"""Made-up incidents and their right answers, and training from a seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agent.reasoning.compact import prompt_of
from agent.reasoning.parse import parse_plan
from agent.reasoning.repertoire import SENSOR_FAULT, UNKNOWN_CAUSE
from pipelines.training.cells import SYLLABLES, made_up_cell
from pipelines.training.examples import examples, said
from pipelines.training.faults import Fault, Seen, told
from pipelines.training.held_out import SETS, drawn
from pipelines.training.incidents import STORIES, Incident, incident
from pipelines.training.simulated import FAULTS, simulated_cell
from pipelines.training.splits import TRAINING, chance, is_held_out
from pipelines.training.words import WORDS
from schemas.plans import Plan
from tests.support.demo import demo_rules

HELD_OUT = {held_out.name: held_out for held_out in SETS}


def some(story: str, count: int, *, noise: float = 0.0, seed: int = 5):
    """Incidents of one story, each of a cell of its own."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        cell = made_up_cell(rng)
        one = incident(cell, rng, story=story, noise=noise)  # type: ignore[arg-type]
        if one is not None:
            found.append((one, cell))
    return found


def diagnoses(one: Incident) -> set[str]:
    return {finding.diagnosis for finding in one.right}


@pytest.mark.parametrize("story", STORIES)
def test_the_right_answer_is_a_plan_that_the_agent_would_take(story):
    for one, cell in some(story, 25, noise=0.1):
        parsed = parse_plan(one.plan().text(), one.request, cell.repertoire.rules)
        assert parsed == one.plan().plan()
        assert isinstance(parsed, Plan)


def test_what_is_unknown_or_doubted_or_over_is_never_acted_on():
    assert {frozenset(diagnoses(one)) for one, _ in some("no_fault", 40)} == {frozenset()}
    assert {frozenset(diagnoses(one)) for one, _ in some("unknown", 40)} == {frozenset({UNKNOWN_CAUSE})}
    assert all(SENSOR_FAULT in diagnoses(one) for one, _ in some("sensor", 40))
    for story in ("no_fault", "unknown", "sensor"):
        assert not [f for one, _ in some(story, 40) for f in one.right if f.actions]


def test_a_fault_that_cannot_be_mended_is_named_and_not_acted_on():
    found = [one for one, _ in drawn(HELD_OUT["missing"], 20, seed=3)]
    assert all(diagnoses(one) and not any(f.actions for f in one.right) for one in found)


def test_several_faults_are_all_named():
    assert all(len(diagnoses(one) - {SENSOR_FAULT, UNKNOWN_CAUSE}) >= 2 for one, _ in some("several", 40))


@pytest.mark.parametrize(
    ("seen", "right"),
    [
        ({"a": "high", "b": "high", "c": "normal"}, True),
        ({"a": "high", "b": "normal", "c": "normal"}, False),  # one shows, one is absent
        ({"a": "high", "b": "unknown", "c": "normal"}, True),
        ({"a": "high", "b": "high", "c": "high"}, False),  # what must be normal is not
        ({"a": "high", "b": "high", "c": "unknown"}, False),  # the other fault would show itself by c
        ({"a": "low", "b": "low", "c": "normal"}, False),
        ({"a": "unknown", "b": "unknown", "c": "normal"}, False),
    ],
)
def test_a_fault_is_told_from_what_is_seen(seen, right):
    high = ("high", "very_high")
    fault = Fault("one", "x", {"a": high, "b": high}, {"c": ("normal",)}, (), ())
    other = Fault("other", "x", {"a": high, "c": high}, {}, (), ())
    assert told(fault, {tag: Seen(bucket) for tag, bucket in seen.items()}, (fault, other)) is right  # type: ignore[arg-type]


def test_a_doubted_measurement_tells_nothing():
    fault = Fault("one", "x", {"a": ("high",)}, {}, (), ())
    assert told(fault, {"a": Seen("high")}, (fault,))
    assert not told(fault, {"a": Seen("high", doubted=True)}, (fault,))


def test_the_same_seed_draws_the_same_incidents_and_another_one_others():
    def first(seed: int):
        return [example.tokens for example in itertools.islice(examples(chance(seed, TRAINING)), 30)]

    assert first(4) == first(4)
    assert first(4) != first(5)


def test_training_sees_no_combination_that_is_held_out():
    rng, cell = np.random.default_rng(1), simulated_cell()
    both = [one for _ in range(80) if (one := incident(cell, rng, story="several", noise=0.0)) is not None]
    kept_out = [one for one in both if is_held_out(one, cell)]
    assert 0 < len(kept_out) < len(both)
    assert all(is_held_out(one, held) for one, held in drawn(HELD_OUT["combinations"], 10, seed=3))
    assert not set(SYLLABLES["training"]) & set(SYLLABLES["unseen"])


def test_a_prompt_and_its_answer_are_words_of_the_vocabulary():
    for one, cell in some("mixed", 40, noise=0.2):
        told_words = prompt_of(one.evidence, one.space, cell.repertoire).messages[0].content.split()
        assert {*told_words, *said(one, cell).split()} <= set(WORDS)


def test_the_generator_knows_the_faults_that_the_simulated_cell_has_rules_for():
    playbook = simulated_cell().playbook
    assert {fault.cause for fault in FAULTS} == {rule.name for rule in playbook.rules if rule.tier == "proposal"}
    tags = {tag.name for tag in demo_rules().cell.tags}
    assert {tag for fault in FAULTS for tag in (*fault.shows, *fault.normal, *fault.side)} <= tags
