"""What a site lets a model choose from: causes by name, actions, and the values that each argument may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.guard.question import Rulebook
from agent.reasoning.canonical import safe
from schemas.catalogue import Action, Argument
from schemas.playbook import Playbook, Rule

NO_FAULT: Final = "no_fault"
"""The evidence shows nothing that an action could mend."""
UNKNOWN_CAUSE: Final = "unknown_cause"
"""The evidence fits no cause that is known here: a person must look."""
SENSOR_FAULT: Final = "sensor_fault"
"""The measurement is wrong, not the process."""
GENERAL_CAUSES: Final = (UNKNOWN_CAUSE, SENSOR_FAULT, NO_FAULT)
"""Known everywhere; a site's own are the names of its playbook's rules."""

STEPS: Final = 8
"""Equal parts into which the range of an argument is divided: what an eighth cannot say is a person's to ask for."""


@dataclass(frozen=True, slots=True)
class Preferred:
    """A value that the site itself uses for an argument, or that a person named."""

    action: str
    argument: str
    value: float


@dataclass(frozen=True, slots=True)
class Repertoire:
    """All that a model may choose from in one cell."""

    rules: Rulebook
    diagnoses: tuple[str, ...]
    """The site's own, in the order of its playbook, then the general ones."""
    preferred: tuple[Preferred, ...] = ()
    steps: int = STEPS
    """Equal parts of a range whose ends are offered too; 0: preferred values only."""
    signatures: tuple[Rule, ...] = ()
    """How each of the site's own causes shows itself, and what the site does against it: its playbook's rules for
    proposals, in their order."""

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions of this cell's robots, in the catalogue's order; names of the safe alphabet only."""
        robots = {robot.id for robot in self.rules.cell.robots}
        return tuple(a for a in self.rules.catalogue.actions if a.robot in robots and safe(a.name) and _safe_args(a))

    def asset_of(self, action: Action) -> str:
        """Return the asset on which an action acts."""
        return next((robot.asset for robot in self.rules.cell.robots if robot.id == action.robot), "")

    def values_of(self, action: Action, argument: Argument) -> tuple[float, ...]:
        """Return the values that may be asked for, ascending: eighths of what policy leaves, and preferred ones."""
        low, high = self.range_of(action, argument)
        eighths = [low + (high - low) * n / self.steps for n in range(self.steps + 1)] if self.steps else []
        own = [p.value for p in self.preferred if (p.action, p.argument) == (action.name, argument.name)]
        rounded = {rounded_6(value) for value in [*eighths, *own]}
        return tuple(sorted(value for value in rounded if low <= value <= high))

    def range_of(self, action: Action, argument: Argument) -> tuple[float, float]:
        """Return the lowest and the highest value that catalogue and policy together allow."""
        limits = [x for x in self.rules.policy.limits if (x.action, x.argument) == (action.name, argument.name)]
        return max([argument.min, *(x.min for x in limits)]), min([argument.max, *(x.max for x in limits)])


def repertoire_of(rules: Rulebook, playbook: Playbook, asked_for: Iterable[Preferred] = ()) -> Repertoire:
    """Return what may be chosen from in a cell.

    Args:
        rules: Of the cell.
        playbook: Its rules' names are the site's causes; the values that they use are preferred ones.
        asked_for: Values that a person named.
    """
    signatures = tuple(rule for rule in playbook.rules if rule.tier == "proposal" and safe(rule.name))
    used = [
        Preferred(action.name, argument, value)
        for rule in playbook.rules
        for action in rule.actions
        for argument, value in action.args.items()
    ]
    causes = tuple(dict.fromkeys([*(rule.name for rule in signatures), *GENERAL_CAUSES]))
    return Repertoire(rules, causes, (*used, *asked_for), signatures=signatures)


def rounded_6(value: float) -> float:
    """Round to 6 significant digits, so that a value and its text are the same.

    >>> rounded_6(33.33333333)
    33.3333
    """
    return float(f"{value:.6g}")


def _safe_args(action: Action) -> bool:
    return all(safe(argument.name) for argument in action.args)
