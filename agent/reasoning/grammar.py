"""The legal answers to one incident as JSON Schema, in the subset that every engine for constrained decoding enforces.

const, enum, anyOf of closed objects told apart by a const or enum, maxItems, pattern. Ranges, oneOf, uniqueItems, if
and maxLength are left out: at least one engine takes them and does not enforce them. What no engine can be told, such
as the number of actions in all, is for `parse_plan`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agent.reasoning.repertoire import Repertoire
from agent.reasoning.space import ActionSpace, PlanSpace, Target
from schemas.plans import ACTIONS_PER_FINDING_MAX, FINDINGS_MAX

DIAGNOSIS_PATTERN: Final = "^[A-Za-z][A-Za-z0-9 ,.()/%_-]{0,119}$"
"""A cause in words for people, in an alphabet that cannot leave its string."""

Schema = dict[str, Any]

NOTHING: Final[Schema] = {"const": "nothing"}
"""What an empty list is a list of: without `items` llama-cpp-python allows any list, whatever `maxItems` says."""


def answer_schema(space: PlanSpace) -> Schema:
    """Return the schema of the answers that are legal for one incident."""
    by_asset: dict[str, list[Target]] = {}
    for target in space.targets:
        by_asset.setdefault(target.asset, []).append(target)
    findings = [_finding({"enum": [t.slot for t in same]}, same[0].actions) for same in by_asset.values()]
    return _closed({"findings": _array(findings, FINDINGS_MAX)})


def parameters_schema(repertoire: Repertoire) -> Schema:
    """Return the schema of what can be legal somewhere in this cell: what a model is shown, the same every time."""
    names = sorted({action.name for action in repertoire.actions})
    action = {"type": "object", "properties": {"name": {"enum": names}, "args": {"type": "object"}}}
    finding = _closed(
        {
            "evidence": {"type": "string"},
            "diagnosis": {"type": "string"},
            "actions": _array([{**action, "required": ["name", "args"]}] if names else [], ACTIONS_PER_FINDING_MAX),
        }
    )
    return _closed({"findings": _array([finding], FINDINGS_MAX)})


def compact(schema: Schema) -> str:
    """Return a schema as JSON, its keys in their order: engines enforce the order in which they are written."""
    return msgspec.json.encode(schema).decode()


def number(text: str) -> int | float:
    """Return a value as JSON writes it.

    >>> number("40"), number("2.5")
    (40, 2.5)
    """
    value = float(text)
    return int(value) if value.is_integer() else value


def _finding(slot: Schema, actions: tuple[ActionSpace, ...]) -> Schema:
    diagnosis = {"type": "string", "pattern": DIAGNOSIS_PATTERN}
    chosen = _array([_action(action) for action in actions], ACTIONS_PER_FINDING_MAX)
    return _closed({"evidence": slot, "diagnosis": diagnosis, "actions": chosen})


def _action(action: ActionSpace) -> Schema:
    args = _closed({argument.name: {"enum": [number(v) for v in argument.values]} for argument in action.args})
    return _closed({"name": {"const": action.name}, "args": args})


def _array(kinds: list[Schema], items_max: int) -> Schema:
    if not kinds:
        return {"type": "array", "items": NOTHING, "maxItems": 0}
    return {"type": "array", "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}, "maxItems": items_max}


def _closed(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
