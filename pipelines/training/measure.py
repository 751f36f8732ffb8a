"""What a model reaches on the held-out sets, beside the playbook: exact plans, right and wrong actions, CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np

from agent.reasoning.deciding import decide
from connectors.reasoners.playbook import answer
from connectors.reasoners.transformers_model import TransformersModel
from pipelines.evaluation.intervals import share
from pipelines.questions import question_for
from pipelines.training.cells import TrainingCell
from pipelines.training.held_out import HeldOutSet, drawn
from pipelines.training.incidents import Incident
from schemas.plans import Plan

DEADLINE_S = 300.0
Done = frozenset[tuple[str, tuple[tuple[str, float], ...]]]
"""The actions of a plan with their values."""


@dataclass(slots=True)
class Measured:
    """Counts over one set."""

    name: str
    title: str
    incidents: int = 0
    exact: int = 0
    """Plans equal to the right one in evidence, causes, actions, values."""
    right_actions: int = 0
    """Plans whose actions are those of the right one; also if both have none."""
    wrong_actions: int = 0
    """Plans with an action that is not of the right one."""
    acted: int = 0
    """Plans with any action."""
    playbook_right_actions: int = 0
    playbook_wrong_actions: int = 0
    cpu_ms: list[float] = field(default_factory=list)
    confidence_of_wrong: list[float] = field(default_factory=list)
    """Of the plans that are not exact."""

    def summary(self) -> dict[str, Any]:
        """Return counts, shares and intervals."""
        exact = share(self.exact, self.incidents)
        assert exact is not None, "nothing was asked"
        kept = {key: value for key, value in asdict(self).items() if not isinstance(value, list)}
        return kept | {
            "exact_share": round(exact.value, 4),
            "exact_95": [round(exact.low, 4), round(exact.high, 4)],
            "cpu_ms_p50": round(float(np.percentile(self.cpu_ms, 50)), 1),
            "cpu_ms_p95": round(float(np.percentile(self.cpu_ms, 95)), 1),
        }


def measure(
    model: TransformersModel,
    held_out: HeldOutSet,
    count: int,
    *,
    seed: int,
    wrong: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Ask a model about `count` incidents of a set.

    Args:
        model: Told by slots.
        held_out: Which.
        count: How many.
        seed: Of the incidents.
        wrong: Told about each plan that is not the right one.
    """
    return measured(model, drawn(held_out, count, seed=seed), Measured(held_out.name, held_out.title), wrong)


def measured(
    model: TransformersModel,
    incidents: Iterable[tuple[Incident, TrainingCell]],
    found: Measured,
    wrong: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Ask a model about incidents, each of its cell, and count in `found`, which is returned."""
    for one, cell in incidents:
        _ask(model, one, cell, found, wrong)
    return found


def _ask(
    model: TransformersModel, one: Incident, cell: TrainingCell, found: Measured, wrong: Callable[[str], None]
) -> None:
    began = time.process_time()
    question = question_for(one.request, cell.repertoire, "slots")
    decided = decide(question.space, question.phrasing, model.begin(question.prompt, call=False, deadline_s=DEADLINE_S))
    found.cpu_ms.append(1000 * (time.process_time() - began))
    plan, right = decided.draft.plan(), one.plan().plan()
    written = msgspec.json.decode(answer(cell.playbook.rules, one.request), type=Plan)
    found.incidents += 1
    found.exact += plan == right
    found.right_actions += done(plan) == done(right)
    found.wrong_actions += not done(plan) <= done(right)
    found.acted += bool(done(plan))
    found.playbook_right_actions += done(written) == done(right)
    found.playbook_wrong_actions += not done(written) <= done(right)
    if plan != right:
        found.confidence_of_wrong.append(decided.confidence)
        told = question.prompt.messages[0].content
        wrong(f"{one.story}\n{told}\n=> {decided.said} ({decided.confidence:.2f})\nnot {right}\n")


def done(plan: Plan) -> Done:
    """Return what a plan does."""
    return frozenset((a.name, tuple(sorted(a.args.items()))) for f in plan.findings for a in f.actions)
