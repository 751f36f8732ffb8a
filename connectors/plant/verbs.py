"""What the PLC can be told to do, with limits of its own.

These constants are written here a second time on purpose: the agent's catalogue has others, and the PLC believes
neither the agent nor its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.line import PackMLState as S

GRIP_FORCE_N_MIN, GRIP_FORCE_N_MAX = 5.0, 60.0
"""Below, the fingers do not close; above, the regulator's valve is saturated."""
SPEED_PCT_MIN, SPEED_PCT_MAX = 20.0, 100.0
CLEAN_PADS_S, CHANGE_PADS_S = 20.0, 120.0
"""Plant time of the two sequences."""

Unit = Literal["gripper", "lift", "drive", "cell"]
"""What a sequence occupies. The speed of the lift may be changed while the pads are cleaned: it is in force later."""

_POWERED = (
    S.EXECUTE, S.HOLDING, S.HELD, S.UNHOLDING, S.SUSPENDING, S.SUSPENDED, S.UNSUSPENDING, S.IDLE, S.STARTING
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SetpointVerb:
    """Changes one retained set-point, in force from the next cycle."""

    unit: Unit
    setpoint: str
    """Field of `connectors.plant.cell.Setpoints`."""
    low: float
    high: float
    symbol: str
    states: tuple[S, ...] = _POWERED


@dataclass(frozen=True, slots=True)
class SequenceVerb:
    """Runs for a while, after the end of the cycle; the cell is suspended meanwhile, or stays held."""

    unit: Unit
    takes_s: float
    states: tuple[S, ...] = (S.EXECUTE, S.HELD)


@dataclass(frozen=True, slots=True)
class StateVerb:
    """Moves the PackML machine."""

    unit: Unit
    trigger: Literal["hold", "unhold"]
    already: tuple[S, ...]
    """States in which it is done without doing anything."""


Verb = SetpointVerb | SequenceVerb | StateVerb

VERBS: dict[str, Verb] = {
    "SetGripForce": SetpointVerb("gripper", "grip_force_n", GRIP_FORCE_N_MIN, GRIP_FORCE_N_MAX, "N"),
    "SetMotionSpeed": SetpointVerb("lift", "motion_speed_pct", SPEED_PCT_MIN, SPEED_PCT_MAX, "%"),
    "SetConveyorSpeed": SetpointVerb("drive", "conveyor_speed_pct", SPEED_PCT_MIN, SPEED_PCT_MAX, "%"),
    "CleanPads": SequenceVerb("gripper", CLEAN_PADS_S),
    "ChangePads": SequenceVerb("gripper", CHANGE_PADS_S),
    "Hold": StateVerb("cell", "hold", (S.HOLDING, S.HELD)),
    "Unhold": StateVerb("cell", "unhold", (S.UNHOLDING, S.EXECUTE)),
}


def setpoint_verb(setpoint: str) -> SetpointVerb:
    """Return the verb that changes this set-point.

    Raises:
        KeyError: there is no such set-point.
    """
    for verb in VERBS.values():
        if isinstance(verb, SetpointVerb) and verb.setpoint == setpoint:
            return verb
    raise KeyError(setpoint)
