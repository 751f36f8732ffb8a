"""The demo over a real broker: collector, worker, decision service and keeper in processes of their own."""

from __future__ import annotations

import json

import pytest

from connectors.kafka.admin import apply_topics
from pipelines.proof import prove
from tests.support.bench import jidoka_process
from tests.support.kafka_broker import emptied, settings_of

WITHIN_S = 240.0
LETTERS = "adh"
"""One that acts, one that loses the server, one that is switched off; `make soak` plays all."""


@pytest.mark.timeout(WITHIN_S + 60)
def test_scenes_come_out_so_and_leave_logs_that_verify_and_replay(kafka_broker, tmp_path):
    apply_topics(settings_of(emptied(kafka_broker), partitions=5))  # as another demo may have left them
    folder = tmp_path / "demo"
    said = jidoka_process(
        "demo", "--script", LETTERS, "--headless", "--speed", 10, "--kafka", kafka_broker.bootstrap[0],
        "--data", folder, within_s=WITHIN_S,
    )  # fmt: skip
    ups = "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("scene-*/up.log")))
    assert (said.status, said.out.splitlines()[-1]) == (0, "all scenes came out so"), (said, ups)
    scenes = {scene["scene"]: scene["problem"] for scene in json.loads((folder / "scenes.json").read_text())}
    assert scenes == dict.fromkeys(LETTERS, "")
    for letter in LETTERS:
        proof = prove(folder / f"scene-{letter}" / "agent")
        assert proof.good, (letter, proof.text)
        assert "not re-run" not in proof.text
    assert "ended with status" not in ups
