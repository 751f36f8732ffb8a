"""A command: an action with an id and values. What was approved is exactly what runs, by its hash."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import msgspec

CommandOrigin = Literal["plan", "compensation", "fallback", "operator", "sentence"]
"""sentence: asked for in plain language. It needs a person's approval, whatever its autonomy."""


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One action to be done once."""

    command_id: str
    """UUIDv5 of the plan and the step: the robot's ledger knows it by this."""
    plan_id: str
    incident_id: str
    """Empty for an operator's request outside any incident."""
    robot: str
    action: str
    verb: str
    args: dict[str, float]
    """In the catalogue's order and units."""
    from_values: dict[str, float]
    """The set-point that each argument changes, as last seen. The robot refuses if it is another by then."""
    origin: CommandOrigin

    def sha256(self) -> str:
        """Return the hash that approvals, intent and the robot's ledger are bound to, 64 hex digits."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value read from the plant. Times are microseconds since 1970 UTC; 0 if the server gave none."""

    value: float | None
    """None: no number (the status says why)."""
    status: int
    source_at: int
    server_at: int

    @property
    def good(self) -> bool:
        """Whether it is a finite number with a Good StatusCode: the log cannot hold another one."""
        return self.value is not None and math.isfinite(self.value) and (self.status >> 30) == 0


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one rule of the guard said."""

    rule: str
    result: Literal["passed", "refused", "deferred"]
    """deferred: cannot be judged before the snapshot; it will be."""
    reason: str = ""
