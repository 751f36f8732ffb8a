"""What a robot can say of a command. An answer that did not come is a value too."""

from __future__ import annotations

from typing import Literal

import msgspec

CommandState = Literal["done", "rejected", "running", "never_seen", "forgotten"]
"""States of the PLC's ledger. `forgotten`: older than the ledger reaches back, so nobody knows."""


class Answered(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="answered"):
    """The robot's own word."""

    state: CommandState
    code: int
    detail: str


class Unknown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unknown"):
    """No answer. The robot may have acted: ask it before anything else."""

    waited_s: float
    reason: str


class NotSent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="not_sent"):
    """It certainly did not leave: the switch was off or the session was down before the first byte."""

    reason: str


Outcome = Answered | Unknown | NotSent
