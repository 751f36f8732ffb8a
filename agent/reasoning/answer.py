"""A model's answer, word for word, becomes the text of a plan: slots become names, code adds what it knows.

Nothing is repaired and nothing is searched for: an answer is a function call in one of the forms below, or it is
returned as it is, for `parse_plan` to say what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from agent.reasoning.space import PlanSpace
from schemas.plans import Finding, Plan, PlannedAction

CALL: Final = re.compile(r"\s*<tool_call>\s*(\{.*\})\s*</tool_call>\s*", re.DOTALL)
"""The form in which Qwen2.5 and other models of the Hermes kind call a function."""


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    evidence: str
    diagnosis: str
    actions: tuple[PlannedAction, ...]


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    findings: tuple[_Said, ...]


class _Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: msgspec.Raw


_CALLS = msgspec.json.Decoder(_Call)
_ANSWERS = msgspec.json.Decoder(_Answer)


def raw_plan(said: str, space: PlanSpace, function: str) -> str:
    """Return an answer in the form of `Plan`; one that is none comes back unchanged.

    Args:
        said: The arguments of the function call, or the whole call.
        space: Of the same incident: it knows the slots.
        function: The one that may be called.
    """
    targets = {target.slot: target for target in space.targets}
    try:
        answer = _ANSWERS.decode(arguments_of(said, function))
        findings = [
            Finding(targets[f.evidence].evidence, targets[f.evidence].asset, f.diagnosis, f.actions)
            for f in answer.findings
        ]
    except (msgspec.DecodeError, UnicodeEncodeError, KeyError):
        return said
    return msgspec.json.encode(Plan(tuple(findings))).decode()


def slotted(plan: Plan, space: PlanSpace) -> str:
    """Return a plan as a model would have said it: `raw_plan` makes of it the same plan for an incident that looks so.

    Raises:
        KeyError: it is about evidence that the space does not have.
    """
    slots = {target.evidence: target.slot for target in space.targets}
    findings = tuple(_Said(slots[f.evidence], f.diagnosis, f.actions) for f in plan.findings)
    return msgspec.json.encode(_Answer(findings)).decode()


def arguments_of(said: str, function: str) -> str:
    """Return the arguments of a call of `function`, or the text itself if it is no such call."""
    match = CALL.fullmatch(said)
    if match is None:
        return said
    try:
        call = _CALLS.decode(match.group(1))
    except (msgspec.DecodeError, UnicodeEncodeError):
        return said
    return bytes(call.arguments).decode() if call.name == function else said
