"""The whole agent on the simulated cell, with a language model among its reasoners."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent.ports import Reasoner
from connectors.reasoners.cascade import Cascade
from connectors.reasoners.playbook import PlaybookReasoner
from pipelines.log_view import story
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache, unusable
from pipelines.questions import Model
from pipelines.simulation import Simulation
from schemas import facts
from schemas.plans import Tier
from schemas.settings import CascadeSettings
from tests.support.incidents import demo_playbook, demo_repertoire
from tests.support.quick_plant import SEED, quick_configuration, quick_plant


def reasoners(model: Model, *, confidence_min: float = 0.0, deadline_s: float = 1.0) -> dict[Tier, Reasoner]:
    """The playbook for reflexes; for proposals the model, then the playbook."""
    playbook = PlaybookReasoner(demo_playbook(), "0" * 64)
    large = ModelReasoner(model, demo_repertoire(), "", PlanCache(16), Lines().of("a/b"))
    chosen = CascadeSettings(order=("large", "playbook"), deadline_s=deadline_s, confidence_min=confidence_min)
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
