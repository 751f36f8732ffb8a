"""A model behind the port `Reasoner`: asked once for what looks the same, not waited for too long, and not trusted."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import msgspec
import pytest

from agent.reasoning.parse import parse_plan
from connectors.reasoners.cascade import Cascade
from connectors.reasoners.playbook import PlaybookReasoner
from pipelines.log_view import summary
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache, unusable
from schemas.errors import ConnectionFault
from schemas.facts import ReasonerAnswered
from schemas.plans import Attempt, Completion, Plan, ReasonerRequest
from schemas.settings import CascadeSettings
from tests.support.demo import demo_rules
from tests.support.incidents import demo_playbook, demo_repertoire, incident
from tests.support.models import CLEAN, Behaviour, ThreadedModel, fails, hangs, late, says

OIL = incident(("part_slip_mm", "very_high", "limit"), shown={"finger_position_mm": "normal", "lift_peak_a": "normal"})
PLAYBOOK_SAYS = "set_grip_force"


def of_incident(incident_id: str, request: ReasonerRequest = OIL, **changes: object) -> ReasonerRequest:
    return msgspec.structs.replace(request, incident_id=incident_id, request_id=incident_id, **changes)


def reasoner(model: ThreadedModel, cache: PlanCache | None = None, rules: str = "rules", line: str = "a/b/c/d/e"):
    return ModelReasoner(model, demo_repertoire(), rules, cache or PlanCache(16), Lines().of(line))


def cascade(model: ThreadedModel, **settings: object) -> Cascade:
    """A model, then the playbook."""
    playbook = PlaybookReasoner(demo_playbook(), "0" * 64)
    chosen = CascadeSettings.model_validate({"order": ("large", "playbook"), "deadline_s": 1.0, **settings})
    return Cascade([reasoner(model), playbook], chosen, lambda c, r: unusable(c, r, demo_repertoire()))


def actions(completion: Completion) -> list[str]:
    plan = json.loads(completion.raw)
    return [action["name"] for finding in plan["findings"] for action in finding["actions"]]


def test_an_answer_carries_all_that_it_was_made_of():
    completion = asyncio.run(reasoner(ThreadedModel(says(CLEAN))).propose(OIL))
    assert isinstance(parse_plan(completion.raw, OIL, demo_rules()), Plan)
    assert (completion.reasoner, completion.said, completion.confidence) == ("large", CLEAN, 0.9)
    assert json.loads(completion.prompt)["function"] == "propose_plan"
    assert completion.model == {"model": "test"}


async def several(asked: ModelReasoner, *requests: ReasonerRequest) -> list[Completion]:
    return [await asked.propose(request) for request in requests]


def test_an_incident_that_looks_the_same_is_answered_without_asking():
    model = ThreadedModel(says(CLEAN))
    renamed = msgspec.structs.replace(OIL.slots[0], name="E7")
    first, second = asyncio.run(several(reasoner(model), of_incident("i1"), of_incident("i2", slots=(renamed,))))
    assert len(model.asked) == 1
    assert (second.model["kept"], json.loads(second.raw)["findings"][0]["evidence"]) == ("true", "E7")
    assert actions(first) == actions(second) == ["clean_pads"]
    assert first.said == second.said == CLEAN, "word for word, also when it is kept"


@pytest.mark.parametrize("other", ["evidence", "set-point", "rules", "model"])
def test_an_incident_that_looks_other_or_other_rules_or_another_model_are_asked_again(other):
    model, cache = ThreadedModel(says(CLEAN)), PlanCache(16)
    asyncio.run(reasoner(model, cache).propose(of_incident("i1")))
    request = of_incident("i2")
    if other == "evidence":
        request = of_incident("i2", incident(("part_slip_mm", "high", "limit")))
    if other == "set-point":
        evidence = msgspec.structs.replace(OIL.evidence, setpoints={**OIL.evidence.setpoints, "grip_force_sp_n": 30.0})
        request = of_incident("i2", evidence=evidence)
    if other == "model":
        model.identity = "another"  # type: ignore[misc]
    asyncio.run(reasoner(model, cache, rules="other" if other == "rules" else "rules").propose(request))
    assert len(model.asked) == 2


def test_an_answer_that_did_not_mend_its_incident_is_forgotten():
    model = ThreadedModel(says(CLEAN))
    asyncio.run(several(reasoner(model), of_incident("i1"), of_incident("i1"), of_incident("i2")))
    assert len(model.asked) == 2, "asked again for i1; the new answer serves i2"


def test_what_is_no_plan_is_not_kept():
    model = ThreadedModel(says("Sure! I would clean the pads."))
    asyncio.run(several(reasoner(model), of_incident("i1"), of_incident("i2")))
    assert len(model.asked) == 2


def test_the_answer_used_longest_ago_goes_first():
    model, cache = ThreadedModel(says('{"findings": []}')), PlanCache(2)
    shown = [incident(("part_slip_mm", bucket, "limit")) for bucket in ("high", "very_high", "low")]
    asks = [of_incident(f"i{n}", request) for n, request in enumerate([*shown, shown[2], shown[0]])]
    asyncio.run(several(reasoner(model, cache), *asks))
    assert len(model.asked) == 4


def test_a_flood_of_the_same_question_asks_once():
    async def flood(asked: ModelReasoner) -> list[Completion]:
        return await asyncio.gather(*(asked.propose(of_incident(f"i{n}")) for n in range(50)))

    model = ThreadedModel(late(0.2, says(CLEAN)))
    assert len(asyncio.run(flood(reasoner(model)))) == 50
    assert len(model.asked) == 1


def test_one_line_asks_one_thing_at_a_time():
    async def ask(asked: ModelReasoner) -> None:
        shown = [incident(("part_slip_mm", bucket, "limit")) for bucket in ("high", "very_high", "low", "very_low")]
        await asyncio.gather(*(asked.propose(of_incident(f"i{n}", r)) for n, r in enumerate(shown)))

    model = ThreadedModel(late(0.05, says('{"findings": []}')))
    asyncio.run(ask(reasoner(model)))
    assert (len(model.asked), model.at_once_most) == (4, 1)


def test_lines_do_not_wait_for_each_other():
    lines = Lines()
    assert lines.of("a/b/c/line1/cell1") is lines.of("a/b/c/line1/cell2")
    assert lines.of("a/b/c/line1/cell1") is not lines.of("a/b/c/line2/cell1")


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (fails(ConnectionFault("the server is gone")), "the server is gone"),
        (fails(MemoryError("out of memory")), "MemoryError: out of memory"),
        (fails(RuntimeError("CUDA error")), "RuntimeError: CUDA error"),
        (says("Sure! I would clean the pads."), "answer.json: "),
        (says('{"findings": [{"evidence": "S9", "diagnosis": "x", "actions": []}]}'), "answer.schema: "),
        (says("\x00" * 20_000), "answer.size: "),
        (says(CLEAN, confidence=0.2), "not sure enough: 0.20, wanted is 0.5"),
        (says(CLEAN, confidence=float("nan")), "not sure enough: nan"),
        (late(30.0, says(CLEAN)), "no answer within 0."),
    ],
)
def test_when_a_model_fails_the_playbook_answers_in_time_and_the_log_says_why(behaviour: Behaviour, why: str):
    began = time.monotonic()
    completion = asyncio.run(cascade(ThreadedModel(behaviour)).propose(OIL))
    assert time.monotonic() - began < 10, "the model itself would have taken 30 s"
    assert (completion.reasoner, actions(completion)) == ("playbook", [PLAYBOOK_SAYS])
    (attempt,) = completion.tried
    assert attempt.reasoner == "large"
    assert attempt.reason.startswith(why)
    assert attempt.reason in summary(ReasonerAnswered(at=0, request_id="r", completion=completion))


def test_a_hung_model_is_not_asked_again_until_it_comes_back_and_nobody_waits_for_it():
    let_go = threading.Event()
    model = ThreadedModel(hangs(let_go))

    async def story() -> list[Completion]:
        asked = cascade(model, deadline_s=0.6)
        another = incident(("lift_peak_a", "high", "shift"))
        found = [await asked.propose(of_incident("a")), await asked.propose(of_incident("b", another))]
        let_go.set()
        model.behaviour = says(CLEAN)
        for n in range(2, 40):
            found.append(await asked.propose(of_incident(f"i{n}")))
            if found[-1].reasoner == "large":
                break
        return found

    found = asyncio.run(story())
    assert [c.reasoner for c in found[:2]] == ["playbook", "playbook"]
    assert found[1].tried[0].reason.startswith("large hangs")
    assert found[-1].reasoner == "large"


def test_a_model_that_answers_is_taken_and_nobody_else_is_mentioned():
    completion = asyncio.run(cascade(ThreadedModel(says(CLEAN))).propose(OIL))
    assert (completion.reasoner, actions(completion), completion.tried) == ("large", ["clean_pads"], ())


def test_a_short_deadline_in_fast_time_leaves_no_time_for_a_model():
    playbook = PlaybookReasoner(demo_playbook(), "0" * 64)
    model = ThreadedModel(says(CLEAN))
    quick = Cascade([reasoner(model), playbook], CascadeSettings(), lambda c, r: "", speed=20.0)
    completion = asyncio.run(quick.propose(of_incident("i", deadline_s=4.0)))
    assert (completion.tried, model.asked) == ((Attempt("large", "no time was left"),), [])
