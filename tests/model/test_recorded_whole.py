"""A language model in the running agent is recorded whole."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.local_model import LocalModel
from schemas import facts
from schemas.settings import TransformersSettings
from tests.support.extras import need_model_extra
from tests.support.incidents import asked, oily_pads_and_dragging_drive
from tests.support.model_in_the_loop import answers, oily_pads


def test_a_model_of_random_weights_is_recorded_whole_and_judged_like_anybody(tmp_path):
    need_model_extra()
    from tests.support.tiny_qwen import make

    folder: Path = make(tmp_path, [asked(oily_pads_and_dragging_drive())[0].text()])
    settings = TransformersSettings(name="large", model=str(folder), dtype="float32", device="cpu", threads=1)
    model = LocalModel(settings)
    assert model.wait(60.0)
    found, _ = oily_pads(model, deadline_s=10.0)
    first = answers(found)[0].completion
    assert first.reasoner == "large"
    assert {"weights_sha256", "tokenizer_sha256", "template_sha256", "transformers", "decode"} <= set(first.model)
    assert json.loads(first.prompt)["messages"][0]["role"] == "system"
    assert first.said
    assert first.choices[0].point == "target"
    intended = [f for f in found if isinstance(f, facts.CommandIntended)]
    judged = {f.command_id for f in found if isinstance(f, facts.GuardJudged) and f.decision == "permitted"}
    assert {f.command.command_id for f in intended} <= judged
    _, log = oily_pads(model, confidence_min=1.0, deadline_s=10.0)
    assert "not sure enough" in log
