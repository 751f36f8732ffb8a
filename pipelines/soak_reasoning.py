"""Soak runs about reasoners: hostile plans, text of attackers, random weights under the grammar, here and served."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.soak_units import Outcome, Unit, support
from schemas.errors import ConnectionFault

HOSTILE_PLANS_N, HOSTILE_UNIT_N = 100_000, 1_000
INJECTED_UNIT_N = 200
ANSWERS_N, ANSWERS_UNIT_N = 10_000, 50
SERVED_UNIT_N = 20
"""Of each set of incidents, all of one server."""
TEMPERATURE = 1.0
ANSWER_S = 300.0
"""Wall time for one answer; a shared machine is slow."""


def hostile_plans(seed: int) -> Iterator[Unit]:
    """Yield units of plans by hostile reasoners, through the cascade."""
    hostile = support("hostile")
    for start in range(0, HOSTILE_PLANS_N, HOSTILE_UNIT_N):
        yield Unit(f"{start}", lambda start=start: _counted(hostile.hostile_plans, HOSTILE_UNIT_N, seed, start))  # type: ignore[misc]


def injected_incidents(seed: int) -> Iterator[Unit]:
    """Yield units of incidents with text of an attacker: each attack of the table in each field."""
    injected = support("injected")
    total = injected.incidents_n()
    for start in range(0, total, INJECTED_UNIT_N):
        count = min(INJECTED_UNIT_N, total - start)
        yield Unit(f"{start}", lambda s=start, n=count: _counted(injected.injected_incidents, n, seed, s))  # type: ignore[misc]


def _counted(run: Callable[..., dict[str, int]], count: int, seed: int, start: int) -> Outcome:
    try:
        counts = run(count, seed, start=start)
    except AssertionError as error:
        return Outcome(count, (str(error),))
    return Outcome(count, (), {key: float(n) for key, n in counts.items()})


def random_weights(seed: int) -> Iterator[Unit]:
    """Yield units of answers that a model of random weights writes under the grammar."""
    for start in range(0, ANSWERS_N, ANSWERS_UNIT_N):
        yield Unit(f"{start}", lambda start=start: _answers(seed, start))  # type: ignore[misc]


def _answers(seed: int, start: int) -> Outcome:
    incidents, schema = support("incidents"), support("schema")
    prompt, _ = incidents.asked(incidents.oily_pads_and_dragging_drive())
    answer, model, wrong = json.loads(prompt.answer), _model(seed).engine, []
    for number in range(start, start + ANSWERS_UNIT_N):
        try:
            said = model.write(prompt, seed=number, temperature=TEMPERATURE, deadline_s=ANSWER_S).said
        except ConnectionFault as error:
            wrong.append(f"answer {number} did not come: {error}")
            continue
        try:
            value = json.loads(said)
        except ValueError as error:
            wrong.append(f"answer {number} is no JSON: {error}")
            continue
        if not schema.valid(value, answer):
            wrong.append(f"answer {number} is not of the schema: {said[:200]}")
    return Outcome(ANSWERS_UNIT_N, tuple(wrong))


@dataclass(frozen=True, slots=True)
class _Model:
    """A model and where its files are. They are removed when this is dropped, at the latest when the process ends."""

    engine: Any
    files: tempfile.TemporaryDirectory[str]


@cache
def _model(seed: int) -> _Model:
    """Return a small Qwen2 with random weights, made on the spot."""
    from connectors.reasoners.transformers_model import TransformersModel
    from schemas.settings import TransformersSettings

    incidents, tiny = support("incidents"), support("tiny_qwen")
    prompt, _ = incidents.asked(incidents.oily_pads_and_dragging_drive())
    files = tempfile.TemporaryDirectory(prefix="jidoka-soak-", ignore_cleanup_errors=True)
    folder = Path(files.name) / "model"
    tiny.make(folder, [prompt.text()], seed=seed, width=32, layers=1)
    settings = {"name": "random", "model": str(folder), "dtype": "float32", "device": "cpu", "threads": 1}
    return _Model(TransformersModel(TransformersSettings.model_validate(settings)), files)


def llama_server(seed: int) -> Iterator[Unit]:
    """Yield units about a server that nobody here wrote: the model converted for it, told of the schema, and not told.

    The server is compiled before the first one if it is not there. Each unit has a server of its own, ended with it.
    """
    served = support("served")
    yield Unit("conversion", lambda: _held(1, lambda: Outcome(1, served.same_model(seed))))
    for number, about in enumerate(served.ASKED_ABOUT):
        first = (seed * len(served.ASKED_ABOUT) + number) * SERVED_UNIT_N
        yield Unit(f"told, {about}", lambda about=about, first=first: _tallied(  # type: ignore[misc]
            "told", lambda: served.with_schema(about, SERVED_UNIT_N, seed=first)
        ))  # fmt: skip
    yield Unit("not told", lambda: _tallied("untold", lambda: served.without_schema(SERVED_UNIT_N, seed=seed)))


def _tallied(prefix: str, work: Callable[[], Any]) -> Outcome:
    def counted() -> Outcome:
        tally = work()
        return Outcome(SERVED_UNIT_N, tuple(tally.failures), tally.figures(prefix))

    return _held(SERVED_UNIT_N, counted)


def _held(count: int, work: Callable[[], Outcome]) -> Outcome:
    """Return what came of it; a server that cannot be made or does not come up fails its unit, not the whole soak."""
    try:
        return work()
    except AssertionError as error:
        return Outcome(count, (str(error),))


REASONING_RUNS: Mapping[str, Callable[[int], Iterator[Unit]]] = {
    "hostile-plans": hostile_plans,
    "injected-incidents": injected_incidents,
    "random-weights": random_weights,
    "llama-server": llama_server,
}
