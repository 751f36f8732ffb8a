"""PackML states by their OPC 30050 numbers, and which of them let a detector learn or an action run."""

from __future__ import annotations

from enum import IntEnum


class PackMLState(IntEnum):
    """OPC 30050 (PackML) state numbers, as in ISA-TR88.00.02 table of states."""

    UNDEFINED = 0
    CLEARING = 1
    STOPPED = 2
    STARTING = 3
    IDLE = 4
    SUSPENDED = 5
    EXECUTE = 6
    STOPPING = 7
    ABORTING = 8
    ABORTED = 9
    HOLDING = 10
    HELD = 11
    UNHOLDING = 12
    SUSPENDING = 13
    UNSUSPENDING = 14
    RESETTING = 15
    COMPLETING = 16
    COMPLETE = 17


def state_name(number: int) -> str:
    """Return the state's name, or `UNDEFINED` for a number that the standard does not know.

    >>> state_name(6), state_name(99)
    ('EXECUTE', 'UNDEFINED')
    """
    return PackMLState(number).name if number in PackMLState._value2member_map_ else "UNDEFINED"
