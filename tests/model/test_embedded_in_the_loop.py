"""The demo's scenes with the embedded model in the place of the playbook: each comes out as told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from connectors.reasoners.cascade import Cascade
from connectors.reasoners.embedded_model import embedded_settings
from connectors.reasoners.playbook import PlaybookReasoner
from pipelines.config import load
from pipelines.demo.scenes import SCENES
from pipelines.demo.stage import SimulatedStage
from pipelines.local_model import LocalModel
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache, unusable
from pipelines.simulation import Simulation
from schemas import facts
from schemas.settings import CascadeSettings
from tests.support.incidents import demo_playbook, demo_repertoire
from tests.support.quick_plant import CONFIG

SEED = 11
LOAD_S = 200.0


@pytest.fixture(scope="module")
def model() -> LocalModel:
    loaded = LocalModel(embedded_settings())
    assert loaded.wait(LOAD_S)
    return loaded


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.letter)
def test_a_scene_comes_out_as_told_with_the_embedded_model(model, scene):
    playbook = PlaybookReasoner(demo_playbook(), "0" * 64)
    asked = ModelReasoner(model, demo_repertoire(), "", PlanCache(16), Lines().of("a/b"))
    chosen = CascadeSettings(order=("embedded", "playbook"))
    cascade = Cascade([asked, playbook], chosen, lambda said, request: unusable(said, request, demo_repertoire()))
    simulation = Simulation(load(CONFIG), seed=SEED, reasoners={"reflex": playbook, "proposal": cascade})

    async def play() -> None:
        async with simulation.running():
            await scene.play(SimulatedStage(simulation))

    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(play())
    finally:
        logging.disable(logging.NOTSET)
    proposals = {f.request.request_id for f in simulation.facts if isinstance(f, facts.ReasonerAsked)
                 if f.request.tier == "proposal"}  # fmt: skip
    answered = [f for f in simulation.facts if isinstance(f, facts.ReasonerAnswered) and f.request_id in proposals]
    assert {f.completion.reasoner for f in answered} <= {"embedded"}
