"""`catalogue.toml`: the closed set of actions. From it come grammar, guard rules and docs.

An action has one risk class towards its safe direction and may have a stricter one away from it: slowing a machine is
class B, speeding it up is class D.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.plant import Alias, Strict

RiskClass = Literal["A", "B", "C", "D"]
"""A advise · B reversible, towards safe · C affects production · D widening, restart. Class X (safety functions, e-stop
reset, PLC download) has no letter here: it is not expressible."""

Comparator = Literal["lt", "le", "gt", "ge", "eq"]


class Argument(Strict):
    """One number that an action takes."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Ends in its unit, e.g. `grip_force_n`."""
    min: float
    """Lowest value that may be asked for."""
    max: float
    """Highest value that may be asked for."""
    unit: str
    """Must equal the unit of `tag`."""
    max_step: float | None = Field(default=None, gt=0)
    """Largest change from the present set-point in one command."""
    tag: str
    """The set-point tag that it moves: gives `From` and is read back. Its unit must equal `unit`."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Largest difference between asked and read back. A REAL (32 bits) keeps 7 digits: give it 1e-6 of the range."""

    @model_validator(mode="after")
    def _ordered(self) -> Argument:
        if not self.min <= self.max:
            raise ValueError(f"argument {self.name!r}: min {self.min} is above max {self.max}: swap or correct them")
        return self


class Condition(Strict):
    """A comparison of one tag with one number."""

    tag: str
    """A tag of the cell."""
    comparator: Comparator
    """lt <, le ≤, gt >, ge ≥, eq =."""
    value: float
    """In the unit of the tag."""

    def holds(self, value: float) -> bool:
        """Tell whether `value` satisfies it. NaN never does.

        >>> Condition(tag="part_slip_mm", comparator="lt", value=2.0).holds(float("nan"))
        False
        """
        match self.comparator:
            case "lt":
                return value < self.value
            case "le":
                return value <= self.value
            case "gt":
                return value > self.value
            case "ge":
                return value >= self.value
            case "eq":
                return value == self.value


class Postcondition(Condition):
    """What the process must show before the action counts as effective."""

    for_cycles: int | None = Field(default=None, ge=1)
    """Consecutive rows of the tag's group."""
    held_for_s: float | None = Field(default=None, gt=0)
    """Agent time for which the condition holds without a break."""
    within_s: float = Field(gt=0)
    """Agent time from the read-back by which it must have been shown; else the effect is absent."""

    @model_validator(mode="after")
    def _one_kind(self) -> Postcondition:
        if (self.for_cycles is None) == (self.held_for_s is None):
            raise ValueError("give either for_cycles or held_for_s")
        return self


class Binding(Strict):
    """How the action is said to the robot."""

    verb: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    """The `Verb` of `Execute`, as the PLC knows it."""


class Action(Strict):
    """One thing that may be done."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Named by policy, playbook and people."""
    title: str
    """For people."""
    aliases: tuple[Alias, ...] = ()
    """What people also call it, for `jidoka ask`: `clean the pads`."""
    robot: str
    """The robot that does it; its asset is the action's scope."""
    risk_class: RiskClass
    """Towards the safe direction, or for an action without one."""
    effect_direction: Literal["decrease", "increase", "none"] = "none"
    """Which way of the first argument leads towards the safe state."""
    risk_class_away: RiskClass = "D"
    """Against the safe direction."""
    args: tuple[Argument, ...] = Field(default=(), max_length=4)
    """Its values. The first one decides the direction."""
    preconditions: tuple[Condition, ...] = ()
    """What must read so in the snapshot before it is sent."""
    states: tuple[str, ...] = ("EXECUTE",)
    """PackML states in which it may run."""
    postcondition: Postcondition | None = None
    """What proves it. Absent: done and read back is all that is asked for."""
    moves: tuple[str, ...] = ()
    """Tags that it moves for good; exactly these are re-baselined."""
    settle_s: float = Field(default=0.0, ge=0)
    """Agent time for which the moved tags are left alone before their new normal is learnt."""
    compensation: Literal["none", "previous_value"] = "none"
    """previous_value: back to the old set-points when the effect stays absent, if that is class B."""
    cooldown_s: float = Field(default=0.0, ge=0, le=3600)
    """Agent time between two sends of this action. Budgets look one hour back: a longer one could not be kept."""
    max_per_hour: int = Field(default=6, ge=1)
    """Sends of this action within an hour."""
    exclusive_with: tuple[str, ...] = ()
    """Actions that must not be on their way or under verification at the same time."""
    approvals: int = Field(default=0, ge=0, le=2)
    """Approvals needed at least; class and autonomy may ask for more."""
    timeout_s: float = Field(default=5.0, gt=0)
    """Wall time to wait for the robot's answer before the outcome is unknown."""
    ttl_s: float = Field(default=10.0, gt=0)
    """Counted by the PLC from receipt."""
    idempotent: bool = True
    """Whether it may be sent again once the robot said, behind the fence, that it never saw it."""
    binding: Binding
    """How it is said to the robot."""

    def argument(self, name: str) -> Argument:
        """Return the argument of this name.

        Raises:
            KeyError: there is none.
        """
        for argument in self.args:
            if argument.name == name:
                return argument
        raise KeyError(name)


class Catalogue(Strict):
    """The whole of `catalogue.toml`. The order of actions is the order shown to a model."""

    actions: tuple[Action, ...]
    """At most one per name."""

    @model_validator(mode="after")
    def _references(self) -> Catalogue:
        names = [a.name for a in self.actions]
        if len(set(names)) != len(names):
            raise ValueError("two actions have the same name: rename one")
        for action in self.actions:
            if len({a.name for a in action.args}) != len(action.args):
                raise ValueError(f"action {action.name!r}: two arguments have the same name: rename one")
            for other in action.exclusive_with:
                if other not in names:
                    raise ValueError(f"action {action.name!r} is exclusive with unknown {other!r}")
            if action.effect_direction != "none" and not action.args:
                raise ValueError(f"action {action.name!r} has an effect direction and no argument")
            if action.effect_direction != "none" and len(action.args) > 1:
                raise ValueError(
                    f"action {action.name!r} has an effect direction and {len(action.args)} arguments: its risk class "
                    "could not be told; make an action of each argument"
                )
            if action.compensation == "previous_value" and not action.args:
                raise ValueError(f"action {action.name!r} cannot go back to a previous value: it has no argument")
        return self

    def action(self, name: str) -> Action | None:
        """Return the action of this name, or None: there is no such action."""
        return next((a for a in self.actions if a.name == name), None)
