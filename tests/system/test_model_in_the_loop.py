"""A language model in the running agent: asked, judged like anybody, recorded whole, and never waited for too long."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.ports import Reasoner
from connectors.reasoners.cascade import Cascade
from connectors.reasoners.playbook import PlaybookReasoner
from pipelines.local_model import LocalModel
from pipelines.log_view import story
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache, unusable
from pipelines.questions import Model
from pipelines.simulation import Simulation
from schemas import facts
from schemas.plans import Tier
from schemas.settings import CascadeSettings, TransformersSettings
from tests.support.extras import need_model_extra
from tests.support.incidents import asked, demo_playbook, demo_repertoire, oily_pads_and_dragging_drive
from tests.support.models import ThreadedModel, fails, hangs
from tests.support.quick_plant import SEED, quick_configuration, quick_plant


def reasoners(model: Model, confidence_min: float = 0.0) -> dict[Tier, Reasoner]:
    """The playbook for reflexes; for proposals the model, then the playbook."""
    playbook = PlaybookReasoner(demo_playbook(), "0" * 64)
    large = ModelReasoner(model, demo_repertoire(), "", PlanCache(16), Lines().of("a/b"))
    chosen = CascadeSettings(order=("large", "playbook"), deadline_s=1.0, confidence_min=confidence_min)
    judged: Callable = lambda completion, request: unusable(completion, request, demo_repertoire())  # noqa: E731
    return {"reflex": playbook, "proposal": Cascade([large, playbook], chosen, judged)}


def oily_pads(model: Model, **settings: float) -> tuple[list[facts.AnyFact], str]:
    """Pads get oily while this model is asked; the facts, and the log as people read it."""
    simulation = Simulation(
        quick_configuration(),
        seed=SEED,
        plant=quick_plant(quick_configuration()),
        reasoners=reasoners(model, **settings),
    )

    async def go() -> str:
        async with simulation.running():
            await simulation.run_for(60.0)
            simulation.plant.station.inject("oil_on_pads", 1.0)
            await simulation.run_for(20.0)
        return story([record async for record in simulation.store.read_all()])

    logging.disable(logging.CRITICAL)
    try:
        return simulation.facts, asyncio.run(go())
    finally:
        logging.disable(logging.NOTSET)


def answers(found: list[facts.AnyFact]) -> list[facts.ReasonerAnswered]:
    """What was answered to proposals."""
    asks = {f.request.request_id: f.request for f in found if isinstance(f, facts.ReasonerAsked)}
    return [f for f in found if isinstance(f, facts.ReasonerAnswered) and asks[f.request_id].tier == "proposal"]


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (hangs(threading.Event()), "no answer within"),
        (fails(MemoryError("out of memory")), "MemoryError: out of memory"),
        (fails(ConnectionRefusedError("refused")), "ConnectionRefusedError: refused"),
    ],
    ids=["hung", "out of memory", "gone"],
)
def test_when_the_model_fails_the_playbook_proposes_and_the_log_says_why(behaviour, why):
    found, log = oily_pads(ThreadedModel(behaviour))
    (proposed,) = [f for f in found if isinstance(f, facts.PlanProposed) and f.tier == "proposal"]
    assert (proposed.who, [c.action for c in proposed.commands]) == ("playbook", ["set_grip_force"])
    assert "; large was asked before: " in log
    assert why in log


def test_a_model_of_random_weights_is_recorded_whole_and_judged_like_anybody(tmp_path):
    need_model_extra()
    from tests.support.tiny_qwen import make

    folder: Path = make(tmp_path, [asked(oily_pads_and_dragging_drive())[0].text()])
    settings = TransformersSettings(name="large", model=str(folder), dtype="float32", device="cpu", threads=1)
    model = LocalModel(settings)
    assert model.wait(60.0)
    found, _ = oily_pads(model)
    first = answers(found)[0].completion
    assert first.reasoner == "large"
    assert {"weights_sha256", "tokenizer_sha256", "template_sha256", "transformers", "decode"} <= set(first.model)
    assert json.loads(first.prompt)["messages"][0]["role"] == "system"
    assert first.said
    assert first.choices[0].point == "target"
    intended = [f for f in found if isinstance(f, facts.CommandIntended)]
    judged = {f.command_id for f in found if isinstance(f, facts.GuardJudged) and f.decision == "permitted"}
    assert {f.command.command_id for f in intended} <= judged
    _, log = oily_pads(model, confidence_min=1.0)
    assert "not sure enough" in log


def test_while_a_model_is_loaded_or_cannot_be_the_playbook_answers(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    broken = LocalModel(TransformersSettings(name="large", model=str(tmp_path), dtype="float32", device="cpu"))
    assert broken.identity == ""
    assert not broken.wait(60.0)
    _, log = oily_pads(broken)
    assert "large could not be loaded" in log
