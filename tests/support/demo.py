"""The demo's configuration, as the core takes it."""

from functools import cache
from pathlib import Path

import connectors.plant
from agent.guard.question import Rulebook
from pipelines.config import DECISIVE, rulebooks
from schemas.catalogue import Action

CONFIG = Path(connectors.plant.__file__).parent / "config"
CELL = "jidoka/demo/assembly/line1/cell1"


@cache
def demo_rules() -> Rulebook:
    """The rules of the demo's one cell."""
    return rulebooks({name: (CONFIG / name).read_bytes() for name in DECISIVE})[CELL]


def with_policy(rules: Rulebook, **changes: object) -> Rulebook:
    """The same rules under a changed policy, validated like a file."""
    policy = type(rules.policy).model_validate({**rules.policy.model_dump(), **changes})
    return Rulebook(rules.cell, rules.catalogue, policy)


def with_action(rules: Rulebook, name: str, **changes: object) -> Rulebook:
    """The same rules with one action changed, validated like a file."""
    actions = [
        Action.model_validate({**a.model_dump(), **(changes if a.name == name else {})})
        for a in rules.catalogue.actions
    ]
    return Rulebook(rules.cell, type(rules.catalogue)(actions=tuple(actions)), rules.policy)


def with_autonomy(rules: Rulebook, action: str, level: str) -> Rulebook:
    """The same rules with another autonomy for one action."""
    others = [p.model_dump() for p in rules.policy.actions if p.action != action]
    return with_policy(
        rules, actions=(*others, {"action": action, "autonomy": level, "raised_by": "test", "reason": "test"})
    )
