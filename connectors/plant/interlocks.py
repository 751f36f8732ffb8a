"""Why the PLC may refuse a new command: every check, in one fixed order, as pure functions of the situation.

The PLC is the authority over its plant. None of this trusts what the agent checked before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from connectors.plant import packml
from connectors.plant.cell import Setpoints
from connectors.plant.codes import Code
from connectors.plant.verbs import VERBS, SequenceVerb, SetpointVerb, StateVerb, Verb
from schemas.line import PackMLState


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a check may look at."""

    state: PackMLState
    setpoints: Setpoints
    remote_enable: bool
    estop_ok: bool
    automatic_mode: bool
    agent_enable: bool
    agent_silent_s: float
    """Wall time since the agent's heartbeat last changed; infinite if it never did."""
    agent_silent_s_max: float
    pending: str | None
    """The verb of the sequence that waits or runs."""


@dataclass(frozen=True, slots=True)
class Objection:
    """The first reason against."""

    code: Code
    detail: str = ""


def objection(
    now: Situation, name: str, args: Sequence[float], from_values: Sequence[float], ttl_ms: int
) -> Objection | None:
    """Return the first reason against a new command, or None."""
    verb = VERBS.get(name)
    if verb is None:
        return Objection(Code.UNKNOWN_VERB, repr(name[:40]))
    wanted = 1 if isinstance(verb, SetpointVerb) else 0
    if len(args) != wanted or len(from_values) != wanted:
        return Objection(
            Code.WRONG_ARGUMENTS, f"{len(args)} arguments and {len(from_values)} previous values, not {wanted}"
        )
    return (
        permissive(now)
        or _state(now, verb)
        or _values(now, verb, args, from_values)
        or (Objection(Code.TTL_EXPIRED, f"{ttl_ms} ms") if ttl_ms <= 0 else None)
    )


def permissive(now: Situation) -> Objection | None:
    """Return which condition of the plant speaks against any command; asked again when a waiting one begins."""
    if not now.estop_ok:
        return Objection(Code.EMERGENCY_STOP)
    if not now.remote_enable:
        return Objection(Code.REMOTE_DISABLED)
    if not now.automatic_mode:
        return Objection(Code.NOT_AUTOMATIC)
    if not now.agent_enable:
        return Objection(Code.AGENT_DISABLED)
    if not now.agent_silent_s <= now.agent_silent_s_max:
        return Objection(Code.AGENT_SILENT, f"for {now.agent_silent_s:.1f} s, allowed {now.agent_silent_s_max:.1f} s")
    return None


def _state(now: Situation, verb: Verb) -> Objection | None:
    match verb:
        case StateVerb():
            allowed = now.state in verb.already or packml.after(verb.trigger, now.state) is not None
        case SetpointVerb() | SequenceVerb():
            allowed = now.state in verb.states
        case _ as never:
            assert_never(never)
    if not allowed:
        return Objection(Code.WRONG_STATE, now.state.name)
    holding = isinstance(verb, StateVerb) and verb.trigger == "hold"
    if now.pending is not None and not holding and verb.unit in (VERBS[now.pending].unit, "cell"):
        return Objection(Code.BUSY, now.pending)
    return None


def _values(now: Situation, verb: Verb, args: Sequence[float], from_values: Sequence[float]) -> Objection | None:
    if not isinstance(verb, SetpointVerb):
        return None
    (asked,), (expected,) = args, from_values
    # Written positively, so that NaN (for which every comparison is false) is refused.
    if not verb.low <= asked <= verb.high:
        return Objection(Code.OUT_OF_LIMITS, f"{asked} {verb.symbol} is outside {verb.low}..{verb.high} {verb.symbol}")
    present = getattr(now.setpoints, verb.setpoint)
    if expected != present:
        return Objection(Code.FROM_MISMATCH, f"present {present} {verb.symbol}, expected {expected} {verb.symbol}")
    return None
