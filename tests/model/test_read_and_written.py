"""A model in memory reads a sentence, and one of random weights for the soak leaves nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from pipelines import soak_reasoning
from pipelines.asking import misread
from pipelines.local_model import LocalModel
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache
from pipelines.questions import question_for
from schemas.settings import TransformersSettings
from tests.support.incidents import demo_repertoire
from tests.support.tiny_qwen import make
from tests.unit.pipelines.test_sentence_reader import BELT, about


def test_a_model_in_memory_reads_a_sentence_choice_by_choice(tmp_path):
    request = about(BELT)
    folder = make(tmp_path, [question_for(request, demo_repertoire(), "names").prompt.text()])
    model = LocalModel(TransformersSettings(name="large", model=str(folder), dtype="float32", device="cpu", threads=1))
    assert model.wait(60.0)
    large = ModelReasoner(model, demo_repertoire(), "", PlanCache(0), Lines().of("a/b"))
    answer = asyncio.run(large.propose(msgspec.structs.replace(request, deadline_s=30.0)))
    assert misread(answer, request, demo_repertoire()) in ("", "it found no action in it")
    assert answer.choices


def test_the_files_of_a_model_of_random_weights_go_with_it():
    folder = Path(soak_reasoning._model(5).files.name)
    assert list(folder.rglob("*.safetensors"))
    with pytest.warns(ResourceWarning, match="Implicitly cleaning up"):
        soak_reasoning._model.cache_clear()
    assert not folder.exists()
