"""The demo's scenes on a virtual clock: each comes out as told, and its record replays byte for byte."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cache

import msgspec
import pytest

from agent.guard.question import Rulebook
from pipelines.config import load
from pipelines.demo.scenes import SCENES, Scene
from pipelines.demo.stage import SimulatedStage
from pipelines.derive import Derivation
from pipelines.recover import Lookahead
from pipelines.replay import Replayed, replay
from pipelines.simulation import Simulation
from schemas import facts
from schemas.facts import DERIVED_NAMES, AnyFact, encode
from schemas.records import Recorded
from schemas.samples import Kept
from tests.support.corrective_story import chain_holds
from tests.support.quick_plant import CONFIG

SEED = 11


@cache
def _played(scene: Scene) -> tuple[Rulebook, list[Recorded], list[Kept], str]:
    async def play() -> tuple[Rulebook, list[Recorded], list[Kept], str]:
        simulation = Simulation(load(CONFIG), seed=SEED)
        async with simulation.running():
            await scene.play(SimulatedStage(simulation))
        records = [record async for record in simulation.store.read_all()]
        log_id = (await simulation.store.head()).log_id
        return simulation.rules, records, list(simulation.keeper.read(after=0)), log_id

    logging.disable(logging.CRITICAL)
    try:
        return asyncio.run(play())
    finally:
        logging.disable(logging.NOTSET)


def _replay(rules: Rulebook, records: list[Recorded], inputs: list[Kept]) -> Replayed:
    return replay(records, Lookahead(iter(inputs)), derivation=Derivation(rules))


scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.letter)


@scenes
def test_scene_comes_out_as_told_and_its_log_is_chained(scene):
    _, records, _, log_id = _played(scene)
    assert chain_holds(records, log_id)


@scenes
def test_every_fact_of_a_scene_is_replayed_byte_for_byte(scene):
    rules, records, inputs, _ = _played(scene)
    replayed = _replay(rules, records, inputs)
    assert replayed.divergence is None
    assert replayed.facts_compared == sum(r.type in DERIVED_NAMES for r in records) > 0
    assert replayed.inputs_fed == len([i for i in inputs if i.position <= records[-1].inputs["input"]])


def _changed(record: Recorded, fact: AnyFact) -> Recorded:
    return Recorded(
        record.position,
        record.cell,
        record.version,
        record.type,
        record.recorded_at,
        record.inputs,
        encode(fact),
        record.chain,
    )


@scenes
def test_one_changed_fact_in_the_record_is_where_replay_diverges(scene):
    """The last derived fact that carries a detector's word is put a microsecond later."""
    rules, records, inputs, _ = _played(scene)
    index = max(i for i, r in enumerate(records) if isinstance(r.fact, facts.LineStateChanged | facts.AnomalyDetected))
    forged = list(records)
    forged[index] = _changed(records[index], _later(records[index].fact))
    divergence = _replay(rules, forged, inputs).divergence
    assert divergence is not None
    assert divergence.position == records[index].position


def _later(fact: AnyFact) -> AnyFact:
    return msgspec.structs.replace(fact, at=fact.at + 1)


def _with_slip_limit(rules: Rulebook, high: float) -> Rulebook:
    plant = rules.cell.model_dump()
    for tag in plant["tags"]:
        if tag["name"] == "part_slip_mm":
            tag["limits"]["high"] = high
    return Rulebook(type(rules.cell).model_validate(plant), rules.catalogue, rules.policy)


def _with_grip_range(rules: Rulebook, high: float) -> Rulebook:
    catalogue = rules.catalogue.model_dump()
    for action in catalogue["actions"]:
        if action["name"] == "set_grip_force":
            action["args"][0]["max"] = high
    return Rulebook(rules.cell, type(rules.catalogue).model_validate(catalogue), rules.policy)


def _with_decision_time(rules: Rulebook, seconds: float) -> Rulebook:
    policy = {**rules.policy.model_dump(), "decide_s": seconds}
    return Rulebook(rules.cell, rules.catalogue, type(rules.policy).model_validate(policy))


CHANGES = {
    "plant": (lambda rules: _with_slip_limit(rules, 3.0), "anomaly.detected"),
    "catalogue": (lambda rules: _with_grip_range(rules, 30.0), "guard.judged"),
    "policy": (lambda rules: _with_decision_time(rules, 599.0), "approval.requested"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_changed_number_in_a_file_is_where_replay_diverges(change):
    """Scene (a): the first fact that depends on the number is named, and none before it."""
    rules, records, inputs, _ = _played(SCENES[0])
    edit, first = CHANGES[change]
    divergence = _replay(edit(rules), records, inputs).divergence
    assert divergence is not None
    assert records[divergence.position - 1].type.startswith(first)
    assert divergence.recorded != divergence.replayed != ""


def test_a_lost_input_is_where_replay_diverges():
    rules, records, inputs, _ = _played(SCENES[0])
    replayed = _replay(rules, records, inputs[: len(inputs) // 2])
    assert replayed.divergence is not None


def _all_types(scenes_played: Sequence[Scene]) -> set[str]:
    return {record.type for scene in scenes_played for record in _played(scene)[1]}


def test_the_scenes_together_say_nearly_all_that_a_log_can_say():
    missing = {"incident.escalated/1", "effect.absent/1", "source.gap/1", "request.refused/1"} - _all_types(SCENES)
    assert missing == set()
