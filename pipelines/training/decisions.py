"""Decisions of a log as incidents to learn from: what was asked, and the plan whose effect was proven as the answer.

What a proven plan does not say is filled in as the site knows it: the cause is that of the playbook's rule that does
the same, or `unknown_cause` where a person did something that no rule names; the finding is about the tag that leads
this cause, or the worst that deviates on the equipment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.reasoning.canonical import CanonicalEvidence, Sign, canonical
from agent.reasoning.fitting import Candidate, candidates, doubtful
from agent.reasoning.repertoire import UNKNOWN_CAUSE, Repertoire, repertoire_of, rounded_6
from agent.reasoning.space import space_of
from pipelines.evaluation.cases import Case, IncidentSet, RightFinding, Rules, rules_of
from pipelines.training.cells import TrainingCell
from pipelines.training.incidents import Incident
from pipelines.training.right import Finding
from schemas.plans import PlannedAction

STORY: Final = "single"


@dataclass(frozen=True, slots=True)
class Decision:
    """One incident to learn from."""

    id: str
    incident: Incident
    cell: TrainingCell


def decisions_of(incidents: IncidentSet) -> tuple[list[Decision], list[str]]:
    """Return what can be learnt from a set, and a line for each case that it cannot be learnt from.

    Raises:
        ConfigError: the configuration of a site cannot be used.
    """
    cells = {name: _cell(rules_of(site)) for name, site in incidents.sites.items()}
    found, left = list[Decision](), list[str]()
    for case in incidents.cases:
        cell = cells[case.site]
        try:
            found.append(Decision(case.id, _incident(case, cell.repertoire), cell))
        except ValueError as error:
            left.append(f"{case.id}: {error}")
    return found, left


def _cell(rules: Rules) -> TrainingCell:
    return TrainingCell(repertoire_of(rules.rulebook, rules.playbook), rules.playbook, ())


def _incident(case: Case, repertoire: Repertoire) -> Incident:
    """Return a case with its first right plan as the answer.

    Raises:
        ValueError: the plan is not one that could have been chosen.
    """
    evidence = canonical(case.request, repertoire.rules.cell)
    space = space_of(evidence, repertoire)
    known = candidates(evidence, space, repertoire)
    right = sorted(
        (_finding(each, evidence, known) for each in case.right[0].findings), key=lambda found: int(found.slot[1:])
    )
    incident = Incident(STORY, case.request, space, evidence, tuple(right), missing=False)
    incident.plan()  # raises where an option was not offered
    return incident


def _finding(right: RightFinding, evidence: CanonicalEvidence, known: Sequence[Candidate]) -> Finding:
    actions = tuple(
        PlannedAction(a.name, {name: _value(*span) for name, span in a.args.items()}) for a in right.actions
    )
    of_it = [candidate for candidate in known if candidate.rule.asset == right.asset]
    same = [candidate for candidate in of_it if candidate.rule.name in right.causes or _does(candidate, actions)]
    if same and (not right.causes or same[0].rule.name in right.causes):
        return Finding(same[0].lead, same[0].rule.name, actions)
    return Finding(_worst(right.asset, evidence).slot, right.causes[0] if right.causes else UNKNOWN_CAUSE, actions)


def _does(candidate: Candidate, actions: Sequence[PlannedAction]) -> bool:
    """Whether the site does just this against a cause."""
    asked = [(a.name, {name: rounded_6(value) for name, value in a.args.items()}) for a in candidate.rule.actions]
    return bool(asked) and asked == [(a.name, dict(a.args)) for a in actions]


def _worst(asset: str, evidence: CanonicalEvidence) -> Sign:
    own = [sign for sign in evidence.targets if sign.asset == asset]
    if not own:
        raise ValueError(f"nothing of {asset} was found, so that no finding can be about it")
    return next((sign for sign in own if not doubtful(sign)), own[0])


def _value(low: float, high: float) -> float:
    """Return the middle of what is right: a proven value is itself."""
    return rounded_6((low + high) / 2)
