"""What a soak runs over Kafka. Each unit has brokers of its own, ended with it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from connectors.kafka.broker import Cluster, cluster
from pipelines.demo.scenes import SCENES
from pipelines.soak_units import Outcome, Unit, support

KAFKA_TRIALS_N = 20

KAFKA_FAULTS: Mapping[str, float] = {
    "broker-killed": 0.0,
    "one-of-three-killed": 0.0,
    "worker-killed": 0.0,
    "workers-1-3-1": 0.0,
    "worker-paused": 60.0,
    "only-worker-paused": 60.0,
    "decide-paused": 60.0,
    "repeated-reordered": 0.0,
    "poison": 0.0,
    "broker-away": 60.0,
}
"""Fault of `tests.support.kafka_faults.faults` -> wall time for which somebody is away."""

COLLECTOR_FAULTS: Mapping[str, int] = {
    "collector_killed": 1,
    "broker_killed": 1,
    "broker_away": 1,
    "one_of_three_killed": 3,
}
"""Trial of `tests.support.collecting_trials` -> brokers."""

PLANT_TOPICS_FAULTS = ("collector_killed", "broker_away")
"""Trials of `tests.support.plant_topics_trials`."""

SCENE_SPEED = 10.0
SCENE_WITHIN_S = 300.0
"""Wall time of one scene; the longest takes a minute on an idle machine."""
SAID_MAX = 2_000
"""Characters of what a failed scene said that are kept."""


def kafka_fault(name: str) -> Callable[[int], Iterator[Unit]]:
    """Return the run of one fault on the Kafka runtime under load: a unit a trial."""

    def units(seed: int) -> Iterator[Unit]:
        trials = support("kafka_faults.trials")
        for number in range(seed, seed + KAFKA_TRIALS_N):
            yield Unit(f"seed {number}", lambda number=number: _trial(  # type: ignore[misc]
                lambda folder: trials.on_a_line(folder, name, seed=number, pause_s=KAFKA_FAULTS[name])
            ))  # fmt: skip

    return units


def kafka_zombie(seed: int) -> Iterator[Unit]:
    """Yield units of a decision service that is stopped with an intent in hand, replaced, and resumed."""
    trials = support("kafka_faults.trials")
    for number in range(seed, seed + KAFKA_TRIALS_N):
        pause_s = 8.0 + (number - seed) * 2.0
        yield Unit(f"seed {number}", lambda number=number, pause_s=pause_s: _trial(  # type: ignore[misc]
            lambda folder: trials.zombie_alone(folder, seed=number, pause_s=pause_s)
        ))  # fmt: skip


def kafka_decide_killed(seed: int) -> Iterator[Unit]:
    """Yield one unit a step of an acting decision service, killed there."""
    trials, points = support("kafka_faults.trials"), support("kafka_faults.decisions").POINTS
    for number, (at, count) in enumerate(points):
        yield Unit(f"{at} {count}", lambda number=number: _trial(  # type: ignore[misc]
            lambda folder: trials.decide_killed_alone(folder, number, seed=seed)
        ))  # fmt: skip


def _trial(trial: Callable[[Path], Any]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="jidoka-soak-") as name:
        done = trial(Path(name))
    return Outcome(1, tuple(done.wrong), dict(done.figures))


def on_brokers(module: str, name: str, brokers_n: int) -> Callable[[int], Iterator[Unit]]:
    """Return the run of one trial that is handed its brokers and returns what was wrong: a unit a seed.

    Args:
        module: Of `tests.support`.
        name: Function in it.
        brokers_n: How many it needs.
    """

    def units(seed: int) -> Iterator[Unit]:
        trial = getattr(support(module), name)
        for number in range(seed, seed + KAFKA_TRIALS_N):
            yield Unit(f"seed {number}", lambda number=number: _on_brokers(trial, brokers_n, number))  # type: ignore[misc]

    return units


def _on_brokers(trial: Callable[..., list[str]], brokers_n: int, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="jidoka-soak-") as name:
        folder = Path(name)
        with cluster(folder / "kafka", brokers_n=brokers_n) as brokers:
            try:
                wrong = trial(folder / "trial", brokers, seed=seed)
            except AssertionError as error:  # A wait that was in vain is what came of it, not the soak's end.
                wrong = [str(error)]
    return Outcome(1, tuple(wrong))


def kafka_scenes(seed: int) -> Iterator[Unit]:
    """Yield one unit a scene of the demo, played by the processes of the Kafka runtime."""
    for scene in SCENES:
        yield Unit(f"{scene.letter} seed {seed}", lambda letter=scene.letter: _scene(letter, seed))  # type: ignore[misc]


def _scene(letter: str, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="jidoka-soak-") as name:
        folder = Path(name)
        with cluster(folder / "kafka") as brokers:
            return _played(letter, seed, folder / "demo", brokers)


def _played(letter: str, seed: int, folder: Path, brokers: Cluster) -> Outcome:
    try:
        said = support("bench").jidoka_process(
            "demo", "--script", letter, "--headless", "--kafka", brokers.bootstrap[0],
            "--speed", SCENE_SPEED, "--seed", seed, "--data", folder, within_s=SCENE_WITHIN_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(1, (f"scene {letter} did not end within {SCENE_WITHIN_S:g} s",))
    try:
        (scene,) = json.loads((folder / "scenes.json").read_text())
    except (OSError, ValueError):
        return Outcome(1, (f"ended with status {said.status}: {(said.out + said.err)[-SAID_MAX:]}",))
    wrong = scene["problem"] or ("" if said.status == 0 else f"ended with status {said.status}: {said.err[-SAID_MAX:]}")
    return Outcome(1, (wrong,) if wrong else (), {k: v for k, v in scene.items() if isinstance(v, float)})


KAFKA_RUNS: Mapping[str, Callable[[int], Iterator[Unit]]] = {
    **{f"kafka-{name}": kafka_fault(name) for name in KAFKA_FAULTS},
    "kafka-zombie": kafka_zombie,
    "kafka-decide-killed": kafka_decide_killed,
    **{
        f"kafka-collector-{name.removeprefix('collector_').replace('_', '-')}": on_brokers("collecting_trials", name, n)
        for name, n in COLLECTOR_FAULTS.items()
    },
    **{
        f"kafka-plant-topics-{name.replace('_', '-')}": on_brokers("plant_topics_trials", name, 1)
        for name in PLANT_TOPICS_FAULTS
    },
    "kafka-scenes": kafka_scenes,
}
