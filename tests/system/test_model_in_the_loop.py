"""A language model in the running agent: judged like anybody, and never waited for too long."""

from __future__ import annotations

import threading

import pytest

from pipelines.local_model import LocalModel
from schemas import facts
from schemas.settings import TransformersSettings
from tests.support.model_in_the_loop import oily_pads
from tests.support.models import ThreadedModel, fails, hangs


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


def test_while_a_model_is_loaded_or_cannot_be_the_playbook_answers(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    broken = LocalModel(TransformersSettings(name="large", model=str(tmp_path), dtype="float32", device="cpu"))
    assert broken.identity == ""
    assert not broken.wait(60.0)
    _, log = oily_pads(broken)
    assert "large could not be loaded" in log
