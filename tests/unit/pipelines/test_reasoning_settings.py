"""From `jidoka.toml` to reasoners: who is asked, what is loaded, and that nothing of it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connectors.reasoners.cascade import Cascade
from connectors.reasoners.playbook import PlaybookReasoner
from pipelines.asking import SentenceReader
from pipelines.config import load
from pipelines.model_reasoner import ModelReasoner
from pipelines.reasoning import Reasoners
from schemas.errors import ConfigError
from tests.support.demo import CONFIG

SERVER = '[[reasoners.servers]]\nname = "large"\nserver = "vllm"\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\n'


def configured(folder: Path, text: str):
    for file in CONFIG.glob("*.toml"):
        (folder / file.name).write_bytes(file.read_bytes())
    settings = folder / "jidoka.toml"
    settings.write_text(settings.read_text() + "\n" + text)
    return load(folder)


def made(folder: Path, text: str) -> dict[str, object]:
    configuration = configured(folder, text)
    return dict(Reasoners(configuration, embedded=False).of(configuration.plant.cells[0]))


def test_without_a_word_and_without_the_extra_the_playbook_answers_everything(tmp_path):
    reasoners = made(tmp_path, "")
    assert {post: type(reasoner) for post, reasoner in reasoners.items()} == {
        "reflex": PlaybookReasoner, "proposal": PlaybookReasoner, "sentence": SentenceReader,
    }  # fmt: skip


def test_a_tier_may_ask_a_model_a_cascade_or_the_playbook(tmp_path):
    found = made(
        tmp_path,
        '[reasoners]\nproposal = "cascade"\nreflex = "large"\n'
        '[reasoners.cascade]\norder = ["large", "playbook"]\n' + SERVER,
    )
    types = {post: type(reasoner) for post, reasoner in found.items()}
    assert types == {"reflex": ModelReasoner, "proposal": Cascade, "sentence": SentenceReader}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[reasoners]\nproposal = "other"\n', "there is no reasoner 'other'"),
        ('[reasoners]\nproposal = "cascade"\n[reasoners.cascade]\norder = ["large"]\n', "there is no reasoner 'large'"),
        ('[reasoners.cascade]\norder = ["cascade"]\n', "not the cascade itself"),
        ("[reasoners.cascade]\ndeadline_s = 11\n", "less than or equal to 10"),
        (SERVER + SERVER, "same name"),
        (SERVER.replace("large", "playbook"), "same name"),
        (
            '[reasoners]\nproposal = "small"\n[[reasoners.transformers]]\nname = "small"\nmodel = "here"\n',
            r"has no \*\.safetensors",
        ),
    ],
)
def test_a_mistake_is_found_at_the_start(tmp_path, text, problem):
    (tmp_path / "var" / "here").mkdir(parents=True)
    with pytest.raises(ConfigError, match=problem):
        made(tmp_path, text)


def test_a_model_that_no_tier_names_is_not_looked_for(tmp_path):
    text = '[[reasoners.transformers]]\nname = "small"\nmodel = "not/here"\n'
    assert type(made(tmp_path, text)["proposal"]) is PlaybookReasoner


def test_the_product_runs_without_torch():
    command = (
        "import sys, pipelines.cli, pipelines.act, pipelines.observe\n"
        "print([m for m in ('torch', 'transformers', 'llguidance', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
