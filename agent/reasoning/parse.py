"""A reasoner's answer becomes a plan of the closed catalogue, or a reason. An unusable answer is an outcome, no error.

The guard's first rules in their order: size, JSON, schema, slots, evidence exists, scope.
"""

from __future__ import annotations

import json
import math
import re

import msgspec

from agent.guard.question import Rulebook
from schemas.catalogue import Action
from schemas.plans import (
    ACTIONS_MAX,
    ACTIONS_PER_FINDING_MAX,
    FINDINGS_MAX,
    Finding,
    Plan,
    PlannedAction,
    ReasonerRequest,
    Unusable,
)

DIAGNOSIS = re.compile(r"[ -~]{1,200}")
"""Printable ASCII: a diagnosis is shown to people and never executed."""

_DECODER = msgspec.json.Decoder(Plan)


def parse_plan(raw: str, request: ReasonerRequest, rules: Rulebook) -> Plan | Unusable:
    """Read an answer to `request`."""
    size = len(raw.encode("utf-8", "surrogatepass"))
    if size > rules.policy.answer_bytes_max:
        return Unusable("answer.size", f"{size} bytes, allowed are {rules.policy.answer_bytes_max}")
    try:
        json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Unusable("answer.json", str(error)[:200])
    try:
        plan = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        return Unusable("answer.schema", str(error)[:200])
    return _counts(plan) or _findings(plan, request, rules) or plan


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a key that comes twice: readers differ on which one counts."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("an object has the same key twice")
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _counts(plan: Plan) -> Unusable | None:
    actions = [len(finding.actions) for finding in plan.findings]
    if len(actions) > FINDINGS_MAX or max(actions, default=0) > ACTIONS_PER_FINDING_MAX or sum(actions) > ACTIONS_MAX:
        return Unusable("answer.schema", f"{len(actions)} findings with {actions} actions: allowed are "
                        f"{FINDINGS_MAX}, {ACTIONS_PER_FINDING_MAX} each and {ACTIONS_MAX} in all")  # fmt: skip
    return None


def _findings(plan: Plan, request: ReasonerRequest, rules: Rulebook) -> Unusable | None:
    slots = {slot.name: slot for slot in request.slots}
    for finding in plan.findings:
        if finding.evidence not in slots:
            return Unusable("answer.slots", f"{finding.evidence!r:.40} is not one of {sorted(slots)}")
        if finding.asset != slots[finding.evidence].asset:
            return Unusable("answer.evidence", f"{finding.evidence} is about {slots[finding.evidence].asset}, "
                            f"not {finding.asset!r:.40}")  # fmt: skip
        if not DIAGNOSIS.fullmatch(finding.diagnosis):
            return Unusable("answer.schema", "diagnosis must be 1 to 200 printable ASCII characters")
        for planned in finding.actions:
            problem = _action(planned, finding, rules)
            if problem is not None:
                return problem
    return None


def _action(planned: PlannedAction, finding: Finding, rules: Rulebook) -> Unusable | None:
    action = rules.catalogue.action(planned.name)
    if action is None:
        return Unusable("answer.catalogue", f"{planned.name!r:.40} is not in the catalogue")
    if set(planned.args) != {argument.name for argument in action.args}:
        return Unusable("answer.arguments", f"{action.name} takes {[a.name for a in action.args]}")
    if not all(math.isfinite(value) for value in planned.args.values()):
        return Unusable("answer.arguments", f"{action.name}: every value must be finite")
    asset = _asset_of(action, rules)
    if asset != finding.asset and action.name != rules.hold_action:
        return Unusable("answer.scope", f"{action.name} acts on {asset}, not on {finding.asset}")
    return None


def _asset_of(action: Action, rules: Rulebook) -> str:
    return next((robot.asset for robot in rules.cell.robots if robot.id == action.robot), "")
