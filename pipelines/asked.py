"""What became of a sentence, for who wrote it: steps with their ranges, and what was not understood. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from agent.asking.following import INTERPRETATION
from agent.guard.question import Rulebook
from agent.reasoning.repertoire import Repertoire
from schemas import facts
from schemas.catalogue import Action
from schemas.commands import Command
from schemas.facts import AnyFact
from schemas.sentences import Interpretation, interpretation_of


def understanding(appended: Sequence[AnyFact], rules: Rulebook) -> dict[str, Any]:
    """Return `reader`, `steps` and `not_understood`, as far as the facts of one append say."""
    said: dict[str, Any] = {}
    for fact in appended:
        match fact:
            case facts.ReasonerAnswered():
                read = interpretation_of(fact.completion.model.get(INTERPRETATION, "")) or Interpretation()
                said["reader"] = fact.completion.reasoner
                said["not_understood"] = [msgspec.to_builtins(part) for part in read.not_understood]
            case facts.PlanProposed():
                assets = [finding.asset for finding in fact.findings for _ in finding.actions]
                said["steps"] = [
                    _step(command, asset, rules) for command, asset in zip(fact.commands, assets, strict=True)
                ]
            case _:
                pass
    return said


def _step(command: Command, asset: str, rules: Rulebook) -> dict[str, Any]:
    action = rules.catalogue.action(command.action)
    return {
        "command_id": command.command_id,
        "sha256": command.sha256(),
        "action": command.action,
        "asset": asset,
        "change": _change(command, action),
        "allowed": _allowed(action, rules) if action is not None else "",
    }


def _allowed(action: Action, rules: Rulebook) -> str:
    """Return what catalogue and policy together leave of each argument."""
    ranges = [(x, Repertoire(rules, ()).range_of(action, x)) for x in action.args]
    return ", ".join(f"{low:g}..{high:g} {x.unit}" for x, (low, high) in ranges)


def _change(command: Command, action: Action | None) -> str:
    """Old and new value of every argument with its unit; the title of an action without any."""
    if action is None or not action.args:
        return action.title if action is not None else command.action
    before = {name: f"{value:g}" for name, value in command.from_values.items()}
    return ", ".join(
        f"{x.name} {before.get(x.name, '?')} -> {command.args.get(x.name, float('nan')):g} {x.unit}"
        for x in action.args
    )
