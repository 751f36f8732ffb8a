"""What the guard is asked, and the words that its rules answer in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.cell import CellState
from schemas.catalogue import Action, Catalogue, RiskClass
from schemas.commands import Command, Reading, Verdict
from schemas.plant import Cell
from schemas.policy import Policy

TOWARDS_SAFE_ORIGINS = frozenset({"compensation", "fallback"})
"""Commands of the agent's own making that lead back to the safe state; they need no approval and no budget, and nothing
but class B."""

ATTEMPTS_MAX = 3
"""Sends of one command: each after the first only once the robot said, behind the fence, that it never saw the one
before. Three, so that a crash between intent and send, and another one while recovering, lose no command."""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The configuration that decisions depend on."""

    cell: Cell
    catalogue: Catalogue
    policy: Policy
    calibration: bytes = b""
    """What the detectors take for normal from the beginning; empty: they warm up."""

    @property
    def hold_action(self) -> str:
        """The action that brings this cell into its safe state; empty: none is named."""
        return self.policy.hold_action_of(self.cell.id)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Fresh readings."""

    read_at: int
    readings: Mapping[str, Reading]
    off_file: bool


@dataclass(frozen=True, slots=True)
class Question:
    """May this command run?"""

    command: Command
    sha256: str
    action: Action | None
    """None: not in the catalogue."""
    rules: Rulebook
    state: CellState
    at: int
    stage: Literal["proposal", "dispatch"]
    evidence_at: int | None
    """Row time of the evidence; None for a person's request."""
    snapshot: Snapshot | None
    decided_at: int = 0
    """When it was last decided that it may run; judged at dispatch."""
    approvers: tuple[str, ...] = ()
    attempt: int = 1

    def risk_class(self) -> RiskClass:
        """Return the class in the direction asked for; the stricter one when the direction cannot be told."""
        action = self.action
        if action is None:
            return "D"
        if action.effect_direction == "none":
            return action.risk_class
        first = action.args[0].name
        value, before = self.command.args.get(first), self.command.from_values.get(first)
        if value is None or before is None:
            return max(action.risk_class, action.risk_class_away)
        towards = value <= before if action.effect_direction == "decrease" else value >= before
        return action.risk_class if towards else action.risk_class_away

    def towards_safe(self) -> bool:
        """Whether the agent makes this command to get back to the safe state."""
        return self.command.origin in TOWARDS_SAFE_ORIGINS


def passed(rule: str, reason: str = "") -> Verdict:
    """The rule has nothing against it."""
    return Verdict(rule, "passed", reason)


def refused(rule: str, reason: str) -> Verdict:
    """The rule forbids it, and why."""
    return Verdict(rule, "refused", reason)


def deferred(rule: str) -> Verdict:
    """The rule needs the snapshot."""
    return Verdict(rule, "deferred", "needs the snapshot")
