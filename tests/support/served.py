"""Incidents asked of a real server that keeps to a schema, through the product's own reasoner; and of the same, untold.

The model has random weights and answers at temperature 1: what is legal about its answers is the server's doing.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agent.reasoning.parse import parse_plan
from agent.reasoning.repertoire import Repertoire
from pipelines.model_reasoner import ModelReasoner, PlanCache
from pipelines.questions import question_for
from pipelines.remote_model import RemoteModel
from pipelines.training.held_out import SETS, drawn
from schemas.errors import ConnectionFault
from schemas.plans import Plan, ReasonerRequest
from schemas.settings import ServerSettings
from tests.support import conversion, llama_server, schema, tiny_qwen
from tests.support.incidents import asked, demo_repertoire, incident, oily_pads_and_dragging_drive

TEMPERATURE = 1.0
TOKENS_MAX, UNTOLD_TOKENS_MAX = 2000, 1000
"""Told of the schema, a model comes to an end by itself; untold, some of its answers do."""
SLACK_S = 1.0
"""Beyond the deadline, within which whoever asked must have been told that there is no answer."""
PROBE_S = 60.0
NO_ANSWER = {"cut_off": "the answer was cut off at tokens_max", "late": "gave no answer within"}
"""Kind -> what the reasoner says: outcomes, after which the next reasoner is asked."""
NOTHING = "nothing"
ASKED_ABOUT = (*(each.name for each in SETS), NOTHING)
"""Sets of incidents; the last is one in which nothing deviates, to which an empty list is the only answer."""


@dataclass(slots=True)
class Tally:
    """What came of some questions."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)

    def figures(self, prefix: str) -> dict[str, float]:
        """Return counts, and answers a second of one who asks one thing after the other."""
        took_s = sorted(self.took_s)
        speed = {"per_s": len(took_s) / sum(took_s), "median_s": took_s[len(took_s) // 2], "longest_s": took_s[-1]}
        return {f"{prefix}_{key}": round(float(value), 3) for key, value in {**self.counts, **speed}.items()}


@dataclass(frozen=True, slots=True)
class _Case:
    """A question about an incident, and what may be answered."""

    name: str
    request: ReasonerRequest
    repertoire: Repertoire

    @property
    def legal(self) -> dict[str, Any]:
        return json.loads(question_for(self.request, self.repertoire, "names").prompt.answer)


def same_model(seed: int) -> tuple[str, ...]:
    """Say what llama.cpp makes of the served model other than transformers does."""
    with tempfile.TemporaryDirectory() as name:
        return conversion.compared(Path(name) / "model", _text(), seed=seed).faults


def with_schema(about: str, count: int, *, seed: int) -> Tally:
    """Ask about incidents of a set of `ASKED_ABOUT`: each answer is of the schema, or said to be none in time."""
    tally = Tally()
    with _serving(seed) as url:
        for number, case in enumerate(_cases(about, count, seed)):
            asyncio.run(_told(RemoteModel(_settings(url, seed=seed + number)), case, tally))
    if not tally.counts["of_the_schema"]:
        tally.failures.append("no answer was of the schema")
    return tally


def without_schema(count: int, *, seed: int) -> Tally:
    """Ask the same model, with the schema left out of what the server is told: it strays and is found out each time.

    This is what `with_schema` would find if the server did not do what is said of it.
    """
    tally = Tally()
    with _serving(seed) as url:
        for number, case in enumerate(_cases(SETS[0].name, count, seed)):
            # The form that has no place for a schema.
            untold = _settings(url, seed=seed + number, server="dashscope", tokens_max=UNTOLD_TOKENS_MAX)
            asyncio.run(_untold(untold, case, tally))
    if not tally.counts["strayed"]:
        tally.failures.append("no answer came that could have strayed")
    return tally


async def _told(model: RemoteModel, case: _Case, tally: Tally) -> None:
    refusal = await model.ready(deadline_s=PROBE_S)
    if refusal:
        tally.failures.append(f"{case.name}: {refusal}")
        return
    tally.counts["probes_passed"] += 1
    said = await _said(model, case, tally)
    if said is not None and not _is_legal(said, case.legal):
        tally.failures.append(f"{case.name} is not of the schema: {said[:200]}")
    elif said is not None:
        tally.counts["of_the_schema"] += 1


async def _untold(untold: ServerSettings, case: _Case, tally: Tally) -> None:
    refusal = await RemoteModel(untold).ready(deadline_s=PROBE_S)
    if "does not keep to a schema" in refusal:
        tally.counts["probes_refused"] += 1
    else:
        tally.failures.append(f"{case.name}: the probe did not find it out: {refusal!r}")
    said = await _said(RemoteModel(untold.model_copy(update={"enforced": False})), case, tally)
    if said is not None and _is_legal(said, case.legal):
        tally.failures.append(f"{case.name} is of the schema, though nobody told it: {said[:200]}")
    elif said is not None:
        tally.counts["strayed"] += 1


async def _said(model: RemoteModel, case: _Case, tally: Tally) -> str | None:
    """Ask the product's reasoner; count and time what comes; return what was said, None: nothing."""
    reasoner = ModelReasoner(model, case.repertoire, "", PlanCache(0), asyncio.Lock())
    began_s, said = time.monotonic(), None
    try:
        completion = await reasoner.propose(case.request)
    except ConnectionFault as error:
        kind = next((kind for kind, text in NO_ANSWER.items() if text in str(error)), "failed")
        tally.counts[kind] += 1
        tally.failures += [f"{case.name}: {error}"] * (kind == "failed")
    else:
        said, plan = completion.said, parse_plan(completion.raw, case.request, case.repertoire.rules)
        tally.counts["plan" if isinstance(plan, Plan) else f"unusable_{plan.rule}"] += 1
    took_s = time.monotonic() - began_s
    tally.took_s.append(took_s)
    if took_s > case.request.deadline_s + SLACK_S:
        tally.failures.append(f"{case.name} took {took_s:.1f} s, allowed are {case.request.deadline_s:g}")
    return said


def _is_legal(said: str, legal: dict[str, Any]) -> bool:
    try:
        return schema.valid(json.loads(said), legal)
    except (ValueError, RecursionError):
        return False


def _cases(about: str, count: int, seed: int) -> Iterator[_Case]:
    if about == NOTHING:
        for number in range(count):
            yield _Case(f"{about} {number}", incident(shown={"cycle_time_s": "normal"}), demo_repertoire())
        return
    (held_out,) = (each for each in SETS if each.name == about)
    for number, (one, cell) in enumerate(drawn(held_out, count, seed=seed)):
        yield _Case(f"{about} {number}", one.request, cell.repertoire)


def _text() -> str:
    prompt, _ = asked(oily_pads_and_dragging_drive())
    return prompt.text()


@contextmanager
def _serving(seed: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = tiny_qwen.make(Path(name) / "model", [_text()], seed=seed)
        with llama_server.llama_server(llama_server.converted(folder), Path(name) / "serve.log") as url:
            yield url


def _settings(
    url: str, *, seed: int, server: Literal["llama_cpp", "dashscope"] = "llama_cpp", tokens_max: int = TOKENS_MAX
) -> ServerSettings:
    return ServerSettings(
        name="served", server=server, url=url, model="model", temperature=TEMPERATURE, seed=seed, tokens_max=tokens_max
    )
