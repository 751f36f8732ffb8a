"""What the PLC says of a command, as numbers: the one table. `docs/plc-side.md` shows the same, and a test compares.

`State` and `Code` are the Int32 outputs of `Execute` and `Query`.
"""

from __future__ import annotations

from enum import IntEnum

from schemas.outcomes import CommandState


class State(IntEnum):
    """What became of a command."""

    DONE = 1
    REJECTED = 2
    RUNNING = 3
    NEVER_SEEN = 4
    FORGOTTEN = 5


STATE_NAMES: dict[State, CommandState] = {
    State.DONE: "done",
    State.REJECTED: "rejected",
    State.RUNNING: "running",
    State.NEVER_SEEN: "never_seen",
    State.FORGOTTEN: "forgotten",
}


class Code(IntEnum):
    """Why. 0 is no objection; below 20 the request itself, from 20 the plant's condition, from 40 its values."""

    OK = 0
    MALFORMED = 10
    STALE_EPOCH = 11
    HASH_MISMATCH = 12
    OUT_OF_LEDGER = 13
    UNKNOWN_VERB = 14
    WRONG_ARGUMENTS = 15
    TTL_EXPIRED = 16
    REMOTE_DISABLED = 20
    EMERGENCY_STOP = 21
    NOT_AUTOMATIC = 22
    AGENT_DISABLED = 23
    AGENT_SILENT = 24
    WRONG_STATE = 25
    BUSY = 26
    OVERTAKEN = 27
    OUT_OF_LIMITS = 40
    FROM_MISMATCH = 41


MEANING: dict[Code, str] = {
    Code.OK: "no objection",
    Code.MALFORMED: "the command id is empty or longer than 64 characters, or the hash is not 64 hex digits",
    Code.STALE_EPOCH: "a younger agent has taken over: whoever asked with this epoch is fenced",
    Code.HASH_MISMATCH: "this command id was used before with another hash",
    Code.OUT_OF_LEDGER: "the command is older than the ledger reaches back: nobody knows its outcome",
    Code.UNKNOWN_VERB: "the PLC has no such verb",
    Code.WRONG_ARGUMENTS: "the number of arguments or of previous values is wrong for this verb",
    Code.TTL_EXPIRED: "the command's time was over before the PLC could begin",
    Code.REMOTE_DISABLED: "remote operation is switched off at the cell",
    Code.EMERGENCY_STOP: "the emergency-stop circuit is open",
    Code.NOT_AUTOMATIC: "the cell is not in automatic mode",
    Code.AGENT_DISABLED: "the agent's switch at the cell is off",
    Code.AGENT_SILENT: "the agent's heartbeat has not changed for too long",
    Code.WRONG_STATE: "the verb is not allowed in the present PackML state",
    Code.BUSY: "a sequence occupies this unit",
    Code.OVERTAKEN: "an abort ended the sequence before it was complete",
    Code.OUT_OF_LIMITS: "a value is outside the PLC's own limits or no number",
    Code.FROM_MISMATCH: "the present set-point is not the one that the command was decided on",
}
