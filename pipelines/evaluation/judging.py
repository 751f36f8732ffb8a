"""One answer held against what is right, and against the guard. Nothing is sent and nobody is asked for approval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.cell import CellState
from agent.guard.check import check
from agent.guard.question import Question, Rulebook
from agent.reasoning.parse import parse_plan
from pipelines.evaluation.cases import Case, RightAction, RightPlan, Rules
from schemas.commands import Command
from schemas.plans import Completion, Finding, Plan, PlannedAction, ReasonerRequest, Unusable

OUTSIDE: Final = frozenset({"answer.catalogue", "answer.arguments", "answer.scope"})
"""Rules of `parse_plan` that refuse what the catalogue does not allow. The others are about form only."""
CLOSE: Final = 1e-6
"""Relative: how near a value must be to the end of its range to be on it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one answer is worth."""

    exact: bool = False
    """Every right action with right values, and no other but harmless ones."""
    equipment: bool = False
    """Findings about the right assets, and about no other."""
    cause: bool | None = None
    """The right cause for each of them; None: the case does not say which."""
    actions: bool = False
    """The right actions, whatever their values."""
    values: bool | None = None
    """The right values; None: no right action has one, or it was not proposed."""
    acted: bool = False
    """Any action was proposed."""
    wrong: tuple[str, ...] = ()
    """Actions proposed that are in no right plan and not harmless."""
    unusable: str = ""
    """The rule by which the answer is no plan; empty: it is one."""
    refused: tuple[str, ...] = ()
    """What the guard, or the catalogue, had to refuse: rules by name."""


def judge(completion: Completion, case: Case, rules: Rules) -> Judged:
    """Hold an answer against a case."""
    rulebook = rules.rulebook
    plan = parse_plan(completion.raw, case.request, rulebook)
    if isinstance(plan, Unusable):
        return Judged(unusable=plan.rule, refused=(plan.rule,) if plan.rule in OUTSIDE else ())
    names = {rule.diagnosis: rule.name for rule in rules.playbook.rules}
    planned = [action for finding in plan.findings for action in finding.actions]
    known = {a.name for right in case.right for f in right.findings for a in f.actions} | {*case.harmless}
    best = max((_against(plan, right, case, names) for right in case.right), key=_rank)
    return Judged(
        exact=best.exact,
        equipment=best.equipment,
        cause=best.cause,
        actions=best.actions,
        values=best.values,
        acted=bool(planned),
        wrong=tuple(sorted({a.name for a in planned} - known)),
        refused=_refused(planned, case.request, rulebook),
    )


def _rank(judged: Judged) -> tuple[bool, ...]:
    return (judged.exact, judged.cause is not False, judged.equipment, judged.actions, judged.values is not False)


def _against(plan: Plan, right: RightPlan, case: Case, names: Mapping[str, str]) -> Judged:
    wanted = {action.name: action for finding in right.findings for action in finding.actions}
    planned = {a.name: a for f in plan.findings for a in f.actions if a.name in wanted or a.name not in case.harmless}
    doubled = sum(len(f.actions) for f in plan.findings) != len({a.name for f in plan.findings for a in f.actions})
    actions = planned.keys() == wanted.keys() and not doubled
    valued = [(planned[name], action) for name, action in wanted.items() if action.args and name in planned]
    values = all(_within(one, action) for one, action in valued) if valued else None
    return Judged(
        exact=actions and values is not False,
        equipment={f.asset for f in plan.findings} == {f.asset for f in right.findings},
        cause=_causes(plan.findings, right, names),
        actions=actions,
        values=values,
    )


def _causes(findings: Sequence[Finding], right: RightPlan, names: Mapping[str, str]) -> bool | None:
    judged = [finding for finding in right.findings if finding.causes]
    if not judged:
        return None
    # A playbook says its diagnosis in words; a model says the rule's name. Both are the same cause.
    said = {(f.asset, names.get(f.diagnosis, f.diagnosis)) for f in findings}
    return all(any((finding.asset, cause) in said for cause in finding.causes) for finding in judged)


def _within(planned: PlannedAction, right: RightAction) -> bool:
    return all(
        low - abs(low) * CLOSE <= planned.args.get(name, float("nan")) <= high + abs(high) * CLOSE
        for name, (low, high) in right.args.items()
    )


def _refused(planned: Sequence[PlannedAction], request: ReasonerRequest, rules: Rulebook) -> tuple[str, ...]:
    """Return the guard's rules that refuse any of these, judged as a proposal in a cell that is free to act."""
    evidence = request.evidence
    state = CellState(rules.cell.path, at=evidence.row_at, mode="act", epoch=1, packml_state=evidence.state)
    found: list[str] = []
    for number, action in enumerate(planned):
        verdicts = check(_question(action, number, request, state, rules)).verdicts
        found += [verdict.rule for verdict in verdicts if verdict.result == "refused"]
    return tuple(dict.fromkeys(found))


def _question(
    planned: PlannedAction, number: int, request: ReasonerRequest, state: CellState, rules: Rulebook
) -> Question:
    action = rules.catalogue.action(planned.name)
    present = request.evidence.setpoints
    command = Command(
        command_id=f"{request.request_id}-{number}",
        plan_id=request.request_id,
        incident_id=request.incident_id,
        robot=action.robot if action is not None else "",
        action=planned.name,
        verb=action.binding.verb if action is not None else "",
        args=dict(planned.args),
        from_values={a.name: present[a.tag] for a in action.args if a.tag in present} if action is not None else {},
        origin="plan",
    )
    at = request.evidence.row_at
    return Question(command, command.sha256(), action, rules, state, at, "proposal", at, None)
