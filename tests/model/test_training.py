"""Training and fine-tuning: the same seed gives the same weights, and a model goes on from what a site decided."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connectors.reasoners.embedded_model import FOLDER
from pipelines.cli import app
from pipelines.evaluation.cases import SITE_FILES, site_of, text_of
from pipelines.evaluation.generated import generated_set
from pipelines.training.decisions import decisions_of
from pipelines.training.fit import Recipe, fit, save
from pipelines.training.tune import TuneRecipe, tune
from schemas.errors import RecordingError
from tests.support.demo import CONFIG

SITE = site_of("demo", {name: (CONFIG / name).read_bytes() for name in SITE_FILES})
SMALL = TuneRecipe(steps=4, batch=8, known_n=10)


def test_training_twice_on_one_thread_gives_the_same_weights(tmp_path):
    recipe, said_of_it = Recipe(seed=3, steps=(3, 3), batch=8, width=32, layers=1), []
    for name in ("first", "second"):
        save(fit(recipe, said_of_it.append), asdict(recipe), tmp_path / name)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert hashlib.sha256(files[0]).digest() == hashlib.sha256(files[1]).digest()
    first_only = Recipe(seed=3, steps=(3,), batch=8, width=32, layers=1)
    save(fit(first_only, said_of_it.append), asdict(first_only), tmp_path / "first round")
    save(fit(recipe, said_of_it.append, tmp_path / "first round"), asdict(recipe), tmp_path / "in two goes")
    assert (tmp_path / "in two goes" / "model.safetensors").read_bytes() == files[0]
    other = Recipe(seed=4, steps=(3,), batch=8, width=32, layers=1)
    save(fit(other, said_of_it.append), asdict(other), tmp_path / "other")
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != files[0]
    assert said_of_it[0] == "round 1 of 2"
    assert said_of_it[1].startswith("step 3 of 3, loss ")


@pytest.fixture(scope="module")
def decisions():
    return decisions_of(generated_set(SITE, 12, seed=4))[0]


def test_a_model_goes_on_learning_and_the_old_one_stays_as_it_is(tmp_path, decisions):
    before = (FOLDER / "model.safetensors").read_bytes()
    result = tune(FOLDER, tmp_path / "tuned", decisions, SMALL, lambda text: None)
    assert set(result.before) == set(result.after) == {"decisions", "names", "no_fault"}
    assert result.learnt_from + result.after["decisions"].incidents == len(decisions)
    assert (FOLDER / "model.safetensors").read_bytes() == before
    assert (tmp_path / "tuned" / "model.safetensors").read_bytes() != before
    assert json.loads((tmp_path / "tuned" / "recipe.json").read_text())["steps"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]


def test_a_model_that_was_broken_on_the_way_is_said_to_be_worse(tmp_path, decisions):
    ruinous = TuneRecipe(steps=4, batch=8, known_n=10, rate=5.0)
    assert tune(FOLDER, tmp_path / "tuned", decisions, ruinous, lambda text: None).worse


def test_too_few_decisions_and_a_folder_that_exists_are_refused(tmp_path, decisions):
    with pytest.raises(RecordingError, match="19 can be learnt from, 20 are needed"):
        tune(FOLDER, tmp_path / "tuned", decisions[:19], SMALL, lambda text: None)
    with pytest.raises(RecordingError, match="it exists"):
        tune(FOLDER, tmp_path, decisions, SMALL, lambda text: None)
    assert not list(tmp_path.iterdir())


def test_the_command_says_how_to_use_what_it_made(tmp_path: Path):
    cases = tmp_path / "site.jsonl"
    cases.write_text(text_of(generated_set(SITE, 12, seed=4)))
    words = ["train", str(cases), "--out", str(tmp_path / "tuned"), "--steps", "2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (0, 1), done.output
    assert f'model = "{tmp_path / "tuned"}"' in done.stdout
    assert ("do not use it" in done.stderr) is (done.exit_code == 1)
