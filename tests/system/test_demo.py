"""The demo as a newcomer starts it: every scene comes out so, is measured, and leaves a log that proves itself."""

from __future__ import annotations

import asyncio
import json

import pytest

from connectors.eventlog.reader import open_readonly
from connectors.eventlog.verify import verify
from pipelines.demo import play
from pipelines.demo.scenes import Scene, Timing
from pipelines.demo.stage import SCRIPT, SceneFailed, Stage
from pipelines.proof import prove
from tests.support.bench import jidoka, jidoka_process

DEMO_WITHIN_S = 420.0
LETTERS = "abcdefgh"
STEPS = ("fault_to_detected_s", "detected_to_intent_ms", "intent_to_readback_ms", "command_to_effect_s")


@pytest.mark.timeout(DEMO_WITHIN_S + 60)
def test_all_scenes_come_out_so_are_measured_and_leave_logs_that_verify_and_replay(tmp_path):
    folder = tmp_path / "demo"
    said = jidoka_process(
        "demo", "--script", "all", "--headless", "--speed", 20, "--data", folder, within_s=DEMO_WITHIN_S
    )
    print(said.out)
    assert (said.status, "Traceback" in said.err) == (0, False), said
    assert said.out.splitlines()[-1] == "all scenes came out so"
    scenes = {scene["scene"]: scene for scene in json.loads((folder / "scenes.json").read_text())}
    assert list(scenes) == list(LETTERS)
    assert {scene["problem"] for scene in scenes.values()} == {""}
    assert said.out.count("    came out so; ") == len(LETTERS)
    assert said.out.count("no command, no incident") == len(play.HEALTHY_SEEDS)
    _measured(said.out, scenes["a"])
    for letter in LETTERS:
        _proves_itself(folder / f"scene-{letter}" / "agent", letter)
    # What the closing words say to look at can be looked at.
    tail = jidoka("log", "tail", "--data", folder / "scene-a", "-n", 3)
    assert (tail.status, len(tail.out.splitlines())) == (0, 3)


def _measured(out: str, scene: dict) -> None:
    for heading in ("fault→detected", "detected→intent", "intent→read-back", "command→effect"):
        assert heading in out
    assert all(scene[step] > 0.0 for step in STEPS), scene
    (row,) = [line for line in out.splitlines() if line.startswith("│ a")]
    for step, unit in zip(STEPS, ("s plant", "ms", "ms", "s plant"), strict=True):
        assert f"{scene[step]:.1f} {unit}" in row


def _proves_itself(data, letter: str) -> None:
    assert verify(data / "log").ok
    proof = prove(data)
    assert proof.good, (letter, proof.text)
    operators = {r.fact.who for r in asyncio.run(_records(data)) if r.type == "operator.requested/1"}
    assert operators == ({SCRIPT} if letter in "abcfgh" else set())
    assert SCRIPT == "demo script"


async def _records(data):
    store = open_readonly(data / "log")
    try:
        return [record async for record in store.read_all()]
    finally:
        await store.close()


async def _fails(stage: Stage) -> Timing:
    raise SceneFailed("the effect is absent")


async def _comes_out(stage: Stage) -> Timing:
    return Timing(fault_to_detected_s=1.0)


@pytest.mark.parametrize(("story", "status", "words"), [
    (_fails, 1, "NOT all scenes came out so"), (_comes_out, 0, "all scenes came out so"),
], ids=["failing", "coming out so"])  # fmt: skip
def test_exit_status_tells_whether_every_scene_came_out_so(tmp_path, monkeypatch, capfd, story, status, words):
    monkeypatch.setattr(play, "SCENES", (Scene("a", "a scene of this test", story),))
    assert play.scripted("a", speed=20.0, seed=1, data=tmp_path / "demo") == status
    out = capfd.readouterr().out
    assert out.splitlines()[-1] == words
    assert ("the effect is absent" in out) is (status == 1)
    (scene,) = json.loads((tmp_path / "demo" / "scenes.json").read_text())
    assert scene["problem"] == ("the effect is absent" if status else "")


def test_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    said = jidoka("demo", "--script", "a", "--headless", "--data", tmp_path)
    assert (said.status, "name a new folder" in said.one_line_error) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("letters", ["z", "ax", "all!"])
def test_scene_that_does_not_exist_is_refused(tmp_path, letters):
    said = jidoka("demo", "--script", letters, "--headless", "--data", tmp_path / "demo")
    assert (said.status, "a, b, c" in said.err) == (2, True)
    assert not (tmp_path / "demo").exists()
