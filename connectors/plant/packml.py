"""The PackML states of the cell and what moves it from one to the next. Pure tables; numbers as in `schemas.line`.

A state that ends in -ING lasts until the motion in progress is over, or, with no motion, `TRANSIENT_S`. Of the
standard's machine (ISA-TR88.00.02) only what this cell uses is here: it never completes a batch and has one mode.
"""

from __future__ import annotations

from typing import Literal

from schemas.line import PackMLState as S

TRANSIENT_S = 1.0
"""How long a state of passage lasts in which nothing moves."""

Trigger = Literal["hold", "unhold", "suspend", "abort", "reset"]

_PRODUCING = (S.EXECUTE, S.SUSPENDED, S.SUSPENDING, S.UNSUSPENDING, S.UNHOLDING)
_ABORTABLE = (
    *_PRODUCING, S.HOLDING, S.HELD, S.STOPPED, S.IDLE, S.STARTING, S.RESETTING, S.CLEARING, S.STOPPING,
    S.COMPLETING, S.COMPLETE, S.UNDEFINED,
)  # fmt: skip

TRANSITIONS: dict[tuple[Trigger, S], S] = {
    **{("hold", state): S.HOLDING for state in _PRODUCING},
    ("unhold", S.HELD): S.UNHOLDING,
    ("suspend", S.EXECUTE): S.SUSPENDING,
    ("suspend", S.HELD): S.HELD,
    **{("abort", state): S.ABORTING for state in _ABORTABLE},
    ("reset", S.ABORTED): S.CLEARING,
}
"""What is not here is not allowed."""

AFTER_MOTION: dict[S, S] = {S.HOLDING: S.HELD, S.SUSPENDING: S.SUSPENDED, S.ABORTING: S.ABORTED}
"""Where a state goes as soon as nothing moves any more."""

AFTER_TRANSIENT: dict[S, S] = {
    S.UNHOLDING: S.EXECUTE,
    S.UNSUSPENDING: S.EXECUTE,
    S.CLEARING: S.STOPPED,
    S.STOPPED: S.RESETTING,
    S.RESETTING: S.IDLE,
    S.IDLE: S.STARTING,
    S.STARTING: S.EXECUTE,
}
"""Where a state of passage goes after `TRANSIENT_S`. STOPPED and IDLE are only passed through, after a reset."""


def after(trigger: Trigger, state: S) -> S | None:
    """Return the state that `trigger` leads to, or None: it is not allowed here.

    >>> after("hold", S.EXECUTE), after("unhold", S.EXECUTE)
    (<PackMLState.HOLDING: 10>, None)
    """
    return TRANSITIONS.get((trigger, state))
