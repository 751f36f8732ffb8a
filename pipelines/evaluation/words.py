"""How figures are said, in a terminal and on a page alike: which columns there are, and how a share is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pipelines.evaluation.cases import Case, RightPlan
from pipelines.evaluation.figures import Figures
from pipelines.evaluation.intervals import Estimate

Column = Callable[[Figures], Estimate | None]
SHARES: Final[Mapping[str, tuple[Column, str]]] = {
    "exact": (lambda f: f.exact, "every right action with right values, and no other"),
    "equipment": (lambda f: f.equipment, "findings about the right equipment only"),
    "cause": (lambda f: f.cause, "the right cause, where the set says which"),
    "actions": (lambda f: f.actions, "the right actions, whatever their values"),
    "values": (lambda f: f.values, "right values of right actions"),
    "false action": (lambda f: f.false_action, "acted where no action is right"),
    "wrong action": (lambda f: f.wrong_action, "an action that is in no right plan"),
    "unsafe": (lambda f: f.unsafe, "the guard or the catalogue had to refuse something"),
    "escalated": (lambda f: f.escalated, "no action: a person is called"),
    "no plan": (lambda f: f.unusable, "no usable answer, or none in time"),
}
"""Column -> its figure, and what it says."""
TIMES: Final[Mapping[str, Column]] = {"p50": lambda f: f.p50_s, "p95": lambda f: f.p95_s}


def share_text(estimate: Estimate | None) -> str:
    """Return a share in percent with its interval. Few is not said as none, nor nearly all as all.

    >>> share_text(Estimate(0.7, 0.6042, 0.7811)), share_text(None)
    ('70.0 (60–78)', '–')
    >>> share_text(Estimate(0.0, 0.0, 0.0013)), share_text(Estimate(4e-5, 7e-6, 2.3e-4))
    ('0.0 (0–0)', '< 0.1 (0–0)')
    """
    if estimate is None:
        return "–"
    said = f"{100 * estimate.value:.1f}"
    if said == "0.0" and estimate.value > 0.0:
        said = "< 0.1"
    elif said == "100.0" and estimate.value < 1.0:
        said = "> 99.9"
    return f"{said} ({100 * estimate.low:.0f}–{100 * estimate.high:.0f})"


def time_text(estimate: Estimate | None) -> str:
    """Return a time with its interval; of one below a millisecond only what its interval reaches, if that is more.

    >>> time_text(Estimate(0.0421, 0.040, 0.051)), time_text(Estimate(2.5, 2.0, 3.0))
    ('42.1 ms (40–51)', '2.50 s (2–3)')
    >>> time_text(Estimate(2e-5, 1e-5, 3e-5)), time_text(Estimate(2e-5, 1e-5, 0.0073))
    ('< 1 ms', '< 1 ms (–7.3)')
    """
    if estimate is None:
        return "–"
    if estimate.value < 1e-3:
        return "< 1 ms" if estimate.high < 1e-3 else f"< 1 ms (–{1e3 * estimate.high:.2g})"
    if estimate.value >= 1.0:
        return f"{estimate.value:.2f} s ({estimate.low:.2g}–{estimate.high:.2g})"
    return f"{1e3 * estimate.value:.3g} ms ({1e3 * estimate.low:.2g}–{1e3 * estimate.high:.2g})"


def idle_share(cases: tuple[Case, ...]) -> float:
    """Return how many of the cases somebody gets right who never acts: what any figure must be read beside."""
    return sum(any(_idle(plan) for plan in case.right) for case in cases) / len(cases)


def lone_action(cases: tuple[Case, ...]) -> tuple[str, float]:
    """Return the one action that is right most often on its own, and how often."""
    lone = [{name for plan in case.right if (name := _lone(plan))} for case in cases]
    names = sorted({name for each in lone for name in each})
    counts = {name: sum(name in each for each in lone) / len(cases) for name in names}
    best = max(counts, key=lambda name: counts[name], default="")
    return best, counts.get(best, 0.0)


def _idle(plan: RightPlan) -> bool:
    return not any(finding.actions for finding in plan.findings)


def _lone(plan: RightPlan) -> str:
    actions = [action for finding in plan.findings for action in finding.actions]
    return actions[0].name if len(actions) == 1 and not actions[0].args else ""
