"""Whatever an incident is like and whatever a model scores: no plant text is in the prompt, the answer is a plan."""

import json
import re

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.reasoning.answer import raw_plan
from agent.reasoning.canonical import KINDS, SIGNS_MAX, canonical
from agent.reasoning.deciding import decide
from agent.reasoning.parse import parse_plan
from agent.reasoning.phrasing import JsonPhrasing
from agent.reasoning.prompt import FUNCTION, TIERS
from schemas.line import PackMLState
from schemas.plans import Plan, PlannedAction
from tests.support.demo import demo_rules
from tests.support.incidents import BUCKETS, asked, demo_repertoire, requests
from tests.support.schema import valid

SENTENCES = " ".join([*TIERS.values(), "Cell state Set-points now Evidence found by direction up down none other"])
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DETECTORS = ("limit", "shift", "spike")
WORDS = {
    *(tag.name for tag in demo_rules().cell.tags),
    *(asset.id for asset in demo_rules().cell.assets),
    *PackMLState.__members__,
    *BUCKETS,
    *KINDS.values(),
    *DETECTORS,
    *re.split(r"[\s:.]+", SENTENCES),
}
"""All that may be said to a model about an incident, beside slots and numbers."""


class Dice:
    """A model whose scores are drawn."""

    def __init__(self, scores: list[float]) -> None:
        self._scores = scores

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def score(self, continuations: list[tuple[int, ...]]) -> list[list[float]]:
        self._scores = self._scores[1:] + self._scores[:1]
        # By the text so far: options that begin alike are scored alike there.
        return [
            [self._scores[sum(text[: n + 1]) % len(self._scores)] for n in range(len(text))] for text in continuations
        ]

    def advance(self, tokens: object) -> None:
        pass


SCORES = st.lists(st.floats(-50, 0), min_size=1, max_size=12)


@RELAXED
@given(requests())
def test_a_prompt_holds_declared_names_words_of_closed_sets_and_numbers_and_nothing_else(request):
    prompt, _ = asked(request)
    told = re.split(r"[\s:;,.()]+(?=\D|$)|[\s:;,()]+", prompt.messages[1].content)
    strange = [w for w in told if w and w not in WORDS and not re.fullmatch(r"[AS]\d+|-?\d+(\.\d+)?(e[+-]\d+)?\.?", w)]
    assert not strange


@RELAXED
@given(requests())
def test_only_the_evidence_differs_between_two_incidents_of_a_cell(request):
    prompt, _ = asked(request)
    other, _ = asked(msgspec.structs.replace(request, slots=(), tier="proposal"))
    assert (prompt.messages[0], prompt.parameters) == (other.messages[0], other.parameters)


@RELAXED
@given(requests())
def test_a_prompt_is_bounded_in_an_alarm_flood(request):
    evidence = canonical(request, demo_rules().cell)
    assert len(evidence.signs) <= SIGNS_MAX
    assert len(asked(request)[0].messages[1].content) < 200 + 120 * SIGNS_MAX


@RELAXED
@given(requests(), st.randoms(use_true_random=False))
def test_the_order_in_which_things_were_found_changes_nothing_that_is_told(request, random):
    slots, tags = list(request.slots), list(request.evidence.tags)
    random.shuffle(slots)
    random.shuffle(tags)
    renamed = tuple(msgspec.structs.replace(s, name=f"E{n}") for n, s in enumerate(slots, start=1))
    evidence = msgspec.structs.replace(request.evidence, tags=tuple(tags))
    assert asked(msgspec.structs.replace(request, slots=renamed, evidence=evidence))[0] == asked(request)[0]


@settings(parent=RELAXED, max_examples=300)
@given(requests(), SCORES)
def test_whatever_a_model_scores_its_answer_is_a_plan_of_the_schema(request, scores):
    prompt, space = asked(request)
    decided = decide(space, JsonPhrasing(), Dice(scores))
    assert valid(json.loads(decided.said), json.loads(prompt.answer))
    raw = raw_plan(decided.said, space, FUNCTION)
    assert raw == decided.draft.text()
    assert isinstance(parse_plan(raw, request, demo_rules()), Plan)
    assert 0.0 < decided.confidence <= 1.0


@RELAXED
@given(requests(), SCORES)
def test_every_value_is_within_reach_of_one_command(request, scores):
    decided = decide(asked(request)[1], JsonPhrasing(), Dice(scores))
    for planned in [a for finding in decided.draft.plan().findings for a in finding.actions]:
        action = demo_rules().catalogue.action(planned.name)
        for argument in action.args:
            value, present = planned.args[argument.name], request.evidence.setpoints.get(argument.tag)
            assert argument.min <= value <= argument.max
            # A set-point that is no number is not known: then only the range bounds.
            if present is not None and abs(present) < float("inf"):
                assert 0 < abs(value - present) <= argument.max_step


@RELAXED
@given(requests(), SCORES)
def test_a_reflex_leads_towards_the_safe_state_only(request, scores):
    reflex = msgspec.structs.replace(request, tier="reflex")
    decided = decide(asked(reflex)[1], JsonPhrasing(), Dice(scores))
    for planned in [a for finding in decided.draft.plan().findings for a in finding.actions]:
        assert _towards_safe(planned, request.evidence.setpoints), planned


def _towards_safe(planned: PlannedAction, setpoints: dict[str, float]) -> bool:
    action = demo_rules().catalogue.action(planned.name)
    if action.risk_class != "B":
        return False
    return all(planned.args[a.name] < setpoints[a.tag] for a in action.args)


def test_the_repertoire_of_the_demo_is_not_empty():
    assert len(demo_repertoire().actions) == 6
