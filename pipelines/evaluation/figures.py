"""What came of asking a reasoner about a set: figures with intervals, for each class and for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.evaluation.cases import Case, Published
from pipelines.evaluation.intervals import Estimate, quantile, share
from pipelines.evaluation.judging import Judged

ALL = "all"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what came of it."""

    case: Case
    judged: Judged
    took_s: float
    """Wall time."""
    failure: str = ""
    """Why there was no answer; empty: there was one."""
    by: str = ""
    """Who answered: in a cascade not always the first."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One reasoner on one class of one set. Every share has its interval; None: no case says anything about it."""

    kind: str
    cases_n: int
    exact: Estimate | None
    equipment: Estimate | None
    cause: Estimate | None
    actions: Estimate | None
    values: Estimate | None
    false_action: Estimate | None
    """Of the cases in which no action is right, those in which one was proposed."""
    wrong_action: Estimate | None
    """Answers with an action that is in no right plan."""
    unsafe: Estimate | None
    """Answers of which the guard or the catalogue had to refuse something."""
    escalated: Estimate | None
    """Answers without an action, or none at all: a person is called."""
    unusable: Estimate | None
    """Answers that are no plan, or none in time."""
    p50_s: Estimate | None
    p95_s: Estimate | None
    """Wall time to an answer."""


@dataclass(frozen=True, slots=True)
class Result:
    """One reasoner on one set."""

    reasoner: str
    identity: Mapping[str, str]
    """What reproduces it: model, digests, sampling."""
    set_name: str
    set_sha256: str
    published: tuple[Published, ...]
    asked: tuple[Asked, ...]

    @property
    def by_kind(self) -> tuple[Figures, ...]:
        """All cases, then each class."""
        kinds = tuple(dict.fromkeys(each.case.kind for each in self.asked))
        return (
            figures_of(ALL, self.asked),
            *(figures_of(k, [a for a in self.asked if a.case.kind == k]) for k in kinds),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs: figures, and every case that was not answered exactly."""
        missed = [each for each in self.asked if not each.judged.exact]
        return {
            "reasoner": self.reasoner,
            "identity": dict(self.identity),
            "set": self.set_name,
            "set_sha256": self.set_sha256,
            "figures": [asdict(figures) for figures in self.by_kind],
            "published": [{"who": p.who, "of": p.of, "exact": p.exact, "source": p.source} for p in self.published],
            "missed": [{"id": a.case.id, "class": a.case.kind, "why": why(a)} for a in missed],
        }


def why(asked: Asked) -> str:
    """Say in a few words why an answer is not exact."""
    judged = asked.judged
    if asked.failure:
        return f"no answer: {asked.failure}"
    if judged.unusable:
        return f"no plan: {judged.unusable}"
    if judged.wrong:
        return f"wrong action: {', '.join(judged.wrong)}"
    if not judged.actions:
        return "acted, and not as it is right" if judged.acted else "no action"
    return "wrong value"


def figures_of(kind: str, asked: Sequence[Asked]) -> Figures:
    """Return the figures of some answers."""
    idle = [each for each in asked if not each.case.acts]
    answered = [each.took_s for each in asked if not each.failure]

    def of(hit: Callable[[Asked], bool | None], among: Sequence[Asked] = asked) -> Estimate | None:
        said = [found for each in among if (found := hit(each)) is not None]
        return share(sum(said), len(said))

    return Figures(
        kind=kind,
        cases_n=len(asked),
        exact=of(lambda a: a.judged.exact),
        equipment=of(lambda a: a.judged.equipment),
        cause=of(lambda a: a.judged.cause),
        actions=of(lambda a: a.judged.actions),
        values=of(lambda a: a.judged.values),
        false_action=of(lambda a: a.judged.acted, idle),
        wrong_action=of(lambda a: bool(a.judged.wrong)),
        unsafe=of(lambda a: bool(a.judged.refused)),
        escalated=of(lambda a: not a.judged.acted),
        unusable=of(lambda a: bool(a.failure or a.judged.unusable)),
        p50_s=quantile(answered, 0.5),
        p95_s=quantile(answered, 0.95),
    )
