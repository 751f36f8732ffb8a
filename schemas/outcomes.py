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

REQUEST_REFUSED_CODES = range(10, 13)
"""Malformed, stale epoch, other hash (docs/plc-side.md): the request is refused, whatever became of the command."""
SERVICE_CODES_FROM = 0x10000
"""Codes from here on are OPC UA StatusCodes: the method did not run."""


def of_query(outcome: Outcome) -> Outcome:
    """Return what an answer to a query says about the command that was asked for.

    A query that was itself refused says nothing: the command may have been done.

    >>> of_query(Answered("rejected", 40, "400 N"))
    Answered(state='rejected', code=40, detail='400 N')
    >>> of_query(Answered("rejected", 11, "epoch 3 is below 4"))
    Unknown(waited_s=0.0, reason='the query was refused: code 11, epoch 3 is below 4')
    """
    if not isinstance(outcome, Answered) or outcome.state != "rejected":
        return outcome
    if outcome.code in REQUEST_REFUSED_CODES or outcome.code >= SERVICE_CODES_FROM:
        return Unknown(0.0, f"the query was refused: code {outcome.code}, {outcome.detail}")
    return outcome
