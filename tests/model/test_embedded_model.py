"""The model that comes with the product: its files, what it reaches, and that it is asked by default."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from connectors.reasoners import embedded_model
from connectors.reasoners.cascade import Cascade
from connectors.reasoners.embedded_model import FOLDER, SHA256, embedded_settings, installed
from connectors.reasoners.playbook import PlaybookReasoner
from connectors.reasoners.weights import digest, find, read
from pipelines.config import load
from pipelines.local_model import LocalModel
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache
from pipelines.reasoning import Reasoners
from pipelines.training.held_out import SETS
from pipelines.training.words import numbers
from schemas.errors import ConfigError
from schemas.plans import Completion
from tests.support.demo import CONFIG
from tests.support.incidents import demo_repertoire, incident, oily_pads_and_dragging_drive

HELD_OUT = {held_out.name: held_out for held_out in SETS}
BYTES_MAX = 8_000_000
LONG_S = 300.0


def test_the_weights_are_those_that_the_code_names_and_small():
    assert (
        read(embedded_settings(), find(embedded_settings())).weights_sha256
        == SHA256
        == digest([FOLDER / "model.safetensors"])
    )
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < BYTES_MAX


def test_other_weights_are_not_loaded(tmp_path):
    for file in FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ConfigError, match="the weights are"):
        read(embedded_settings().model_copy(update={"model": str(tmp_path)}), tmp_path)


def proposal(folder: Path, text: str = "", **embedded: bool) -> object:
    for file in CONFIG.glob("*.toml"):
        (folder / file.name).write_bytes(file.read_bytes())
    with (folder / "jidoka.toml").open("a") as settings:
        settings.write("\n" + text)
    configuration = load(folder)
    return Reasoners(configuration, **embedded).of(configuration.plant.cells[0])["proposal"]


def test_without_a_word_the_embedded_model_is_asked_and_then_the_playbook(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalModel, "load", lambda self: None)
    found = proposal(tmp_path, embedded=True)
    assert isinstance(found, Cascade)
    assert [r.name for r in (*found._first, found._last)] == ["embedded", "playbook"]


def test_without_the_extra_or_the_weights_the_playbook_is_asked(tmp_path, monkeypatch):
    assert isinstance(proposal(tmp_path, embedded=False), PlaybookReasoner)
    monkeypatch.setattr(embedded_model, "PACKAGES", ("not_installed_anywhere",))
    assert not installed()
    monkeypatch.setattr(embedded_model, "PACKAGES", ())
    assert installed()
    monkeypatch.setattr(embedded_model, "FOLDER", tmp_path)
    assert not installed()


def test_it_is_not_asked_for_a_reflex(tmp_path):
    with pytest.raises(ConfigError, match="has learnt proposals only"):
        proposal(tmp_path, '[reasoners]\nreflex = "embedded"\n')


@pytest.fixture(scope="module")
def model():
    from connectors.reasoners.transformers_model import TransformersModel

    return TransformersModel(embedded_settings())


def test_the_tokenizer_reads_words_as_training_wrote_them(model):
    words = ["proposal", "EXECUTE", "A01", "length", "very_high", "undecided", "leads", "D01", "S24", "end"]
    assert list(model._encode("proposal EXECUTE\nA01\n" + " ".join(words[3:]))) == [numbers()[word] for word in words]
    assert model._tokenizer(" v003", add_special_tokens=False).input_ids[0] == numbers_space()


def numbers_space() -> int:
    from pipelines.training.words import SPACE

    return SPACE


@pytest.mark.parametrize(
    ("name", "count", "exact_min"),
    [("names", 60, 58), ("orders", 60, 58), ("missing", 40, 39), ("several", 60, 57), ("unknown", 60, 58)],
)
def test_a_small_sample_of_each_held_out_set_reaches_its_goal(model, name, count, exact_min):
    from pipelines.training.measure import measure

    assert measure(model, HELD_OUT[name], count, seed=1).exact >= exact_min


def test_not_one_action_is_proposed_where_nothing_is_wrong(model):
    from pipelines.training.measure import measure

    assert measure(model, HELD_OUT["no_fault"], 80, seed=1).acted == 0


@pytest.fixture(scope="module")
def loaded() -> LocalModel:
    local = LocalModel(embedded_settings())
    assert local.wait(LONG_S)
    return local


def asked(loaded: LocalModel, request) -> Completion:
    async def ask() -> Completion:
        line = Lines().of("a/b/c/d/e")
        return await ModelReasoner(loaded, demo_repertoire(), "rules", PlanCache(8), line).propose(request)

    return asyncio.run(ask())


def findings(completion: Completion) -> list[tuple[str, str, list[str]]]:
    plan = json.loads(completion.raw)
    return [(f["evidence"], f["diagnosis"], [a["name"] for a in f["actions"]]) for f in plan["findings"]]


def test_two_faults_of_the_simulated_cell_are_both_found_and_mended(loaded):
    found = asked(loaded, oily_pads_and_dragging_drive())
    assert findings(found) == [("E2", "oil_on_pads", ["set_grip_force"]), ("E1", "drive_drag", ["set_conveyor_speed"])]
    assert found.confidence is not None
    assert found.confidence > 0.5
    assert found.model["weights_sha256"] == SHA256


def test_two_faults_of_one_equipment_are_both_found_where_the_playbook_stops_at_the_first(loaded):
    request = incident(("finger_position_mm", "high", "shift"), ("lift_peak_a", "high", "shift"))
    assert findings(asked(loaded, request)) == [
        ("E1", "worn_pad", ["change_pads"]),
        ("E2", "heavier_part", ["set_motion_speed"]),
    ]


def test_a_stuck_sensor_is_named_and_nothing_is_done(loaded):
    request = incident(
        ("part_slip_mm", "very_high", "stuck"), shown={"finger_position_mm": "normal", "lift_peak_a": "normal"}
    )
    assert findings(asked(loaded, request)) == [("E1", "sensor_fault", [])]


def test_what_no_rule_knows_calls_a_person(loaded):
    assert findings(asked(loaded, incident(("cycle_time_s", "very_high", "shift")))) == [("E1", "unknown_cause", [])]
