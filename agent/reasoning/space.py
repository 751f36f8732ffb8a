"""The closed set of plans for one incident, as choices: which evidence, which cause, which action, which value, stop.

A `Draft` is a plan in the making. `point()` says what is to be chosen next and from what; `take()` chooses. Every way
to the end is a plan that `parse_plan` accepts, and findings come in the order of the evidence: one plan is one way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from agent.reasoning.canonical import CanonicalEvidence, Sign
from agent.reasoning.repertoire import Repertoire
from schemas.catalogue import Action, Argument
from schemas.plans import (
    ACTIONS_MAX,
    ACTIONS_PER_FINDING_MAX,
    FINDINGS_MAX,
    Finding,
    Plan,
    PlannedAction,
    Tier,
)

STOP: Final = "stop"
"""The option that ends a list. No slot, cause or value is called so; an action that is called so cannot be offered."""


@dataclass(frozen=True, slots=True)
class ArgumentSpace:
    """One argument with what it may be."""

    name: str
    values: tuple[str, ...]
    """As text, ascending: `float(text)` is the value."""
    low: float
    high: float
    """The range that catalogue and policy leave."""


@dataclass(frozen=True, slots=True)
class ActionSpace:
    """One action with its arguments."""

    name: str
    args: tuple[ArgumentSpace, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Evidence that a finding can be about, and what may be done about it."""

    slot: str
    """As the model sees it, `S1`."""
    evidence: str
    """As the request calls it, `E1`."""
    asset: str
    actions: tuple[ActionSpace, ...]


@dataclass(frozen=True, slots=True)
class PlanSpace:
    """All plans for one incident."""

    targets: tuple[Target, ...]
    diagnoses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChoicePoint:
    """What is to be chosen next."""

    kind: Literal["target", "diagnosis", "action", "argument"]
    subject: str
    """For people: `target`, `diagnosis S1`, `action S1`, `set_grip_force.grip_force_n`."""
    options: tuple[str, ...]
    """At least one. With one only there is nothing to ask."""


@dataclass(frozen=True, slots=True)
class DraftAction:
    """An action and the values chosen so far, in the order of its arguments."""

    action: ActionSpace
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftFinding:
    """A finding in the making."""

    target: Target
    diagnosis: str = ""
    actions: tuple[DraftAction, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan in the making."""

    space: PlanSpace
    findings: tuple[DraftFinding, ...] = ()
    closed: bool = False

    def point(self) -> ChoicePoint | None:
        """Return the next choice, or None: the plan is complete."""
        if self.closed:
            return None
        last = self.findings[-1] if self.findings else None
        if last is None or last.closed:
            return ChoicePoint("target", "target", self._targets())
        if not last.diagnosis:
            return ChoicePoint("diagnosis", f"diagnosis {last.target.slot}", self.space.diagnoses)
        argument = pending(last)
        if argument is not None:
            return ChoicePoint("argument", f"{last.actions[-1].action.name}.{argument.name}", argument.values)
        return ChoicePoint("action", f"action {last.target.slot}", self._actions(last))

    def take(self, option: str) -> Draft:
        """Return the draft after a choice.

        Raises:
            ValueError: nothing is to be chosen, or not this.
        """
        point = self.point()
        if point is None or option not in point.options:
            raise ValueError(f"{option!r} is not one of {point.options if point is not None else ()}")
        if point.kind == "target":
            if option == STOP:
                return replace(self, closed=True)
            target = next(t for t in self.space.targets if t.slot == option)
            return replace(self, findings=(*self.findings, DraftFinding(target)))
        return replace(self, findings=(*self.findings[:-1], _taken(self.findings[-1], point, option)))

    def plan(self) -> Plan:
        """Return the plan, with the request's own slots. What is not complete yet is left out."""
        return Plan(tuple(_finding(f) for f in self.findings if f.diagnosis))

    def text(self) -> str:
        """Return the plan as the JSON that any reasoner would give."""
        return msgspec.json.encode(self.plan()).decode()

    def _targets(self) -> tuple[str, ...]:
        slots = tuple(target.slot for target in self.space.targets)
        begun = slots.index(self.findings[-1].target.slot) + 1 if self.findings else 0
        left = slots[begun:] if len(self.findings) < FINDINGS_MAX else ()
        return (*left, STOP)

    def _actions(self, finding: DraftFinding) -> tuple[str, ...]:
        taken = {a.action.name for f in self.findings for a in f.actions}
        if len(taken) >= ACTIONS_MAX or len(finding.actions) >= ACTIONS_PER_FINDING_MAX:
            return (STOP,)
        return (*(a.name for a in finding.target.actions if a.name not in taken), STOP)


def pending(finding: DraftFinding) -> ArgumentSpace | None:
    """Return the argument of the last action that has no value yet."""
    if not finding.actions:
        return None
    last = finding.actions[-1]
    return last.action.args[len(last.values)] if len(last.values) < len(last.action.args) else None


def space_of(evidence: CanonicalEvidence, repertoire: Repertoire) -> PlanSpace:
    """Return all plans for an incident.

    Values lie within catalogue, policy and the largest step from the present set-point. For a reflex only what leads
    towards the safe state is left. The guard judges it all again.
    """
    return PlanSpace(
        targets=tuple(_target(sign, evidence, repertoire) for sign in evidence.targets),
        diagnoses=repertoire.diagnoses,
    )


def _target(sign: Sign, evidence: CanonicalEvidence, repertoire: Repertoire) -> Target:
    hold = repertoire.rules.hold_action
    offered = [a for a in repertoire.actions if repertoire.asset_of(a) == sign.asset or a.name == hold]
    spaces = [_action(action, evidence, repertoire) for action in offered if action.name != STOP]
    return Target(sign.slot, sign.evidence, sign.asset, tuple(space for space in spaces if space is not None))


def _action(action: Action, evidence: CanonicalEvidence, repertoire: Repertoire) -> ActionSpace | None:
    if evidence.tier == "reflex" and (action.risk_class not in ("A", "B") or (action.args and _aimless(action))):
        return None
    args = tuple(_argument(action, argument, evidence, repertoire) for argument in action.args)
    return ActionSpace(action.name, args) if all(argument.values for argument in args) else None


def _aimless(action: Action) -> bool:
    """Whether nobody can tell which values lead towards the safe state."""
    return action.effect_direction == "none"


def _argument(action: Action, argument: Argument, evidence: CanonicalEvidence, repertoire: Repertoire) -> ArgumentSpace:
    present = evidence.setpoints.get(argument.tag)
    low, high = repertoire.range_of(action, argument)
    values = repertoire.values_of(action, argument)
    allowed = [f"{value:.6g}" for value in values if _reachable(value, present, action, argument, evidence.tier)]
    return ArgumentSpace(argument.name, tuple(allowed), low, high)


def _reachable(value: float, present: float | None, action: Action, argument: Argument, tier: Tier) -> bool:
    """Whether one command may ask for it. With the present set-point unknown only a reflex has nothing to go by."""
    if present is None:
        return tier != "reflex"
    if argument.max_step is not None and not abs(value - present) <= argument.max_step:
        return False
    if value == present:
        return False
    return tier != "reflex" or (value < present) == (action.effect_direction == "decrease")


def _taken(finding: DraftFinding, point: ChoicePoint, option: str) -> DraftFinding:
    if point.kind == "diagnosis":
        return replace(finding, diagnosis=option)
    if point.kind == "argument":
        last = finding.actions[-1]
        return replace(finding, actions=(*finding.actions[:-1], replace(last, values=(*last.values, option))))
    if option == STOP:
        return replace(finding, closed=True)
    action = next(a for a in finding.target.actions if a.name == option)
    return replace(finding, actions=(*finding.actions, DraftAction(action)))


def _finding(finding: DraftFinding) -> Finding:
    actions = tuple(
        PlannedAction(a.action.name, {x.name: float(v) for x, v in zip(a.action.args, a.values, strict=True)})
        for a in finding.actions
        if len(a.values) == len(a.action.args)
    )
    return Finding(finding.target.evidence, finding.target.asset, finding.diagnosis, actions)
