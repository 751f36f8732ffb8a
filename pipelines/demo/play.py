"""Plays the demo: scenes by script with a table at the end, or a live screen with faults at a key press."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines.config import load
from pipelines.demo.healthy import HEALTHY_S, healthy_hour
from pipelines.demo.live_stage import LiveStage
from pipelines.demo.scenes import SCENES, Scene, Timing
from pipelines.demo.setting import fresh_folder, setting
from pipelines.demo.stage import SceneFailed
from pipelines.proof import prove
from schemas.errors import JidokaError

HEALTHY_SEEDS = (1, 2, 3)
LETTERS = (*(scene.letter for scene in SCENES), "i")
"""Of all scenes; i is the healthy hour."""


@dataclass(frozen=True, slots=True)
class Played:
    """How a scene came out."""

    scene: Scene
    timing: Timing | None
    problem: str
    took_s: float
    record: str
    """What verifying and replaying its log came to."""


def scripted(letters: str, *, speed: float, seed: int, data: Path | None, kafka: str = "") -> int:
    """Play scenes one after another, each with a fresh cell and agent; returns the exit status."""
    wanted = set(LETTERS if letters == "all" else letters)
    folder = fresh_folder(data)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"data folder {folder}", flush=True)
    played = [_play(s, folder / f"scene-{s.letter}", speed, seed, kafka) for s in SCENES if s.letter in wanted]
    healthy = _healthy() if "i" in wanted else []
    Console(width=None if sys.stdout.isatty() else 160).print(_table(played))
    for line in healthy:
        print(line)
    good = all(not p.problem for p in played) and all("no command, no incident" in line for line in healthy)
    result = [{"scene": p.scene.letter, "problem": p.problem, "record": p.record, **_plain(p.timing)} for p in played]
    (folder / "scenes.json").write_text(json.dumps(result, indent=2) + "\n")
    print("all scenes came out so" if good else "NOT all scenes came out so", flush=True)
    return 0 if good else 1


def _plain(timing: Timing | None) -> dict[str, float | None]:
    return asdict(timing) if timing is not None else {}


def _play(scene: Scene, folder: Path, speed: float, seed: int, kafka: str) -> Played:
    print(f"({scene.letter}) {scene.title} ...", flush=True)
    began, problem, timing = time.monotonic(), "", None
    try:
        timing = asyncio.run(_on_stage(scene, folder, speed, seed, kafka))
    except (SceneFailed, JidokaError) as error:
        problem = str(error)
    record = prove(folder / "agent")
    if not problem and not record.good:
        problem = record.text
    played = Played(scene, timing, problem, time.monotonic() - began, record.text)
    print(f"    {problem or 'came out so'}; {played.record}; {played.took_s:.0f} s", flush=True)
    return played


async def _on_stage(scene: Scene, folder: Path, speed: float, seed: int, kafka: str) -> Timing:
    if kafka:
        from pipelines.demo.over_kafka import kafka_setting  # The demo alone does without the extra `kafka`.

        async with kafka_setting(folder, kafka, speed=speed, seed=seed) as remote:
            return await scene.play(remote)
    async with setting(folder, speed=speed, seed=seed) as demo:
        stage = LiveStage(demo.runtime, demo.plant, demo.simulation, speed)
        return await scene.play(stage)


def _healthy() -> list[str]:
    """Play (i): a healthy hour of plant time per seed, in one process each on a virtual clock."""
    print(f"(i) {HEALTHY_S / 3600:g} healthy hour of plant time, seeds {HEALTHY_SEEDS} ...", flush=True)
    with ProcessPoolExecutor(max_workers=2) as pool:
        return list(pool.map(healthy_hour, HEALTHY_SEEDS))


def _table(played: list[Played]) -> Table:
    table = Table(title="scenes", title_justify="left")
    for column in ("", "scene", "fault→detected", "detected→intent", "intent→read-back", "command→effect", "came out"):
        table.add_column(column, overflow="fold")
    for each in played:
        timing = each.timing or Timing()
        table.add_row(
            each.scene.letter,
            each.scene.title,
            _number(timing.fault_to_detected_s, "s plant"),
            _number(timing.detected_to_intent_ms, "ms"),
            _number(timing.intent_to_readback_ms, "ms"),
            _number(timing.command_to_effect_s, "s plant"),
            each.problem or "so",
        )
    return table


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.1f} {unit}"


def packaged_configuration() -> Path:
    """Return the folder of the demo's configuration files."""
    folder = Path(str(resources.files("connectors.plant").joinpath("config")))
    load(folder)
    return folder


def interactive(*, speed: float, seed: int, data: Path | None, headless: bool) -> None:
    """Run until the user ends it."""
    from pipelines.demo.live import watch

    folder = fresh_folder(data)
    asyncio.run(watch(folder, speed=speed, seed=seed, lines=headless or not sys.stdout.isatty()))
