"""Contact physics of the gripper and its lift: one pick-lift-lower-release move at a time, in MuJoCo.

Not here: the conveyor, the PLC, sensor noise, time. Per finger pad, with Coulomb friction mu, part mass m and upward
acceleration a, a part holds while ``2 * mu * F >= m * (g + a)``. The faults break this inequality by one term each,
and each corrective action can mend one term only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

STEP_S = 0.002
"""Physics step. The lift's reference is refreshed every step: held for a 10 ms scan it would shake the part."""
LIFT_M = 0.30
LIFT_S = 0.45
"""Height and duration of the lift at 100 % speed. A minimum-jerk move peaks at 5.77 * L / T^2 = 8.5 m/s2."""
CLOSE_S, DWELL_S = 0.45, 0.30
LOST_MM = 25.0
"""Slip at which the pads no longer hold the part; the end of the position sensor's range."""
PAD_HALF_M = 0.008
PART_MASS_NOMINAL_KG = 0.5
MOVING_MASS_KG = 2.7
"""Hand, fingers and a nominal part: what the lift's feed-forward expects."""
MOTOR_N_A = 10.0
"""Force of the lift's motor per ampere."""

MJCF = """
<mujoco>
  <option timestep="0.002" cone="elliptic" impratio="20" integrator="implicitfast" noslip_iterations="4"/>
  <default><geom friction="0.6 .005 .0001" condim="4" solref="0.006 1"/></default>
  <worldbody>
    <geom name="floor" type="plane" size="2 2 .1" condim="3"/>
    <geom name="nest" type="box" pos="0 0 .56" size=".03 .015 .01" friction=".4 .005 .0001"/>
    <body name="hand" pos="0 0 .6">
      <joint name="lift" type="slide" axis="0 0 1" range="-.05 .6" damping="5"/>
      <geom type="box" size=".1 .04 .02" pos="0 0 .12" mass="2" contype="0" conaffinity="0"/>
      <body name="left" pos="-.06 0 0">
        <joint name="left" type="slide" axis="1 0 0" range="0 .05" damping="40"/>
        <geom name="left" type="box" size=".008 .02 .025" mass=".1"/>
      </body>
      <body name="right" pos=".06 0 0">
        <joint name="right" type="slide" axis="-1 0 0" range="0 .05" damping="40"/>
        <geom name="right" type="box" size=".008 .02 .025" mass=".1"/>
      </body>
    </body>
    <body name="part" pos="0 0 .6"><freejoint/><geom name="part" type="box" size=".03 .03 .03" mass=".5"/></body>
  </worldbody>
  <actuator>
    <motor name="lift" joint="lift"/><motor name="left" joint="left"/><motor name="right" joint="right"/>
  </actuator>
</mujoco>
"""
"""`noslip_iterations` and `solref` were found by measurement: healthy slip 0.02 mm instead of 0.6 mm, and no creep."""


@dataclass(frozen=True, slots=True)
class Pads:
    """The hidden truth about what the gripper holds, and with what."""

    friction: float
    wear_mm: float
    part_mass_kg: float


@dataclass(frozen=True, slots=True)
class Move:
    """What one move did, exactly; sensors add their noise elsewhere."""

    took_s: float
    grip_force_n: float
    """Mean normal force on a pad once clamped."""
    finger_position_mm: float
    lift_current_a: float
    """Root mean square over the move: what heats the motor. Falls when the part is lost."""
    lift_peak_a: float
    """Peak during the acceleration upwards: weighs the part before it can be lost."""
    slip_mm: float
    """Movement of the part against the pads between grasp and release; `LOST_MM` when it fell."""


def minimum_jerk(u: float) -> tuple[float, float, float]:
    """Return position, velocity and acceleration of a unit move at `u` in 0..1 (Flash and Hogan 1985).

    >>> minimum_jerk(0.5)
    (0.5, 1.875, 0.0)
    """
    return (
        u**3 * (10 - 15 * u + 6 * u * u),
        30 * u * u * (1 - u) ** 2,
        60 * u * (1 - u) * (1 - 2 * u),
    )


def reference(t: float, lift_s: float) -> tuple[float, float, float]:
    """Return height, velocity and acceleration of the hand `t` seconds after the grasp, in m, m/s and m/s2."""
    if t <= 0.0:
        return 0.0, 0.0, 0.0
    down_s = t - lift_s - DWELL_S
    if down_s < 0.0:
        x, v, a = minimum_jerk(min(t / lift_s, 1.0))
        return LIFT_M * x, LIFT_M * v / lift_s, LIFT_M * a / lift_s**2
    x, v, a = minimum_jerk(min(down_s / lift_s, 1.0))
    return LIFT_M * (1.0 - x), -LIFT_M * v / lift_s, -LIFT_M * a / lift_s**2


class Gripper:
    """Gripper, lift, nest and part. Not thread-safe; a move takes about 15 ms of one core."""

    def __init__(self) -> None:
        self._model = mujoco.MjModel.from_xml_string(MJCF)
        self._state = mujoco.MjData(self._model)
        self._pad = tuple(self._model.geom(name).id for name in ("left", "right"))
        self._part_geom, self._part = self._model.geom("part").id, self._model.body("part").id
        self._hand = self._model.body("hand").id
        self._unit_inertia = self._model.body_inertia[self._part] / PART_MASS_NOMINAL_KG
        self._force = np.zeros(6)

    def move(self, pads: Pads, random: np.random.Generator, *, grip_force_n: float, motion_speed_pct: float) -> Move:
        """Grasp a fresh part, lift, dwell, lower. Draws three numbers from `random`.

        Args:
            pads: The condition of pads and part.
            random: Mass +-1 %, friction +-3 %, position +-0.5 mm of this part.
            grip_force_n: What the force regulator drives, per finger.
            motion_speed_pct: Speed of the lift, above 0.
        """
        self._next_part(pads, random)
        state = self._state
        lift_s = LIFT_S * 100.0 / motion_speed_pct
        closing, steps = round(CLOSE_S / STEP_S), round((CLOSE_S + 2 * lift_s + DWELL_S) / STEP_S)
        slip_mm, rest_mm, clamped_n, squared_n2, peak_n, finger_mm = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(steps):
            z, v, a = reference(k * STEP_S - CLOSE_S, lift_s)
            lift_n = MOVING_MASS_KG * (9.81 + a) + 9000.0 * (z - state.qpos[0]) + 500.0 * (v - state.qvel[0])
            state.ctrl[:] = (lift_n, grip_force_n, grip_force_n)
            mujoco.mj_step(self._model, state)
            if k == closing:  # clamped: what a gripper reports before it lets the arm go
                rest_mm, finger_mm = self._part_offset_mm(), 500.0 * (state.qpos[1] + state.qpos[2])
                clamped_n = self._pad_force_n()
            if k >= closing:
                squared_n2 += lift_n * lift_n
                peak_n = max(peak_n, lift_n)
                if slip_mm < LOST_MM:
                    slip_mm = max(slip_mm, abs(self._part_offset_mm() - rest_mm))
                    if slip_mm >= LOST_MM:
                        self._drop_part()
        return Move(
            took_s=steps * STEP_S,
            grip_force_n=float(clamped_n),
            finger_position_mm=float(finger_mm),
            lift_current_a=math.sqrt(squared_n2 / (steps - closing)) / MOTOR_N_A,
            lift_peak_a=float(peak_n) / MOTOR_N_A,
            slip_mm=min(slip_mm, LOST_MM),
        )

    def _next_part(self, pads: Pads, random: np.random.Generator) -> None:
        """Put a fresh part into the nest and open the hand: every cycle is a re-grasp, so creep can't add up."""
        model, state = self._model, self._state
        mujoco.mj_resetData(model, state)
        state.qpos[3:10] = (0.0005 * random.standard_normal(), 0.0, 0.60, 1.0, 0.0, 0.0, 0.0)
        mass_kg = pads.part_mass_kg * (1 + 0.01 * random.standard_normal())
        model.body_mass[self._part] = mass_kg
        model.body_inertia[self._part] = self._unit_inertia * mass_kg
        friction = pads.friction * (1 + 0.03 * random.standard_normal())
        half_m = PAD_HALF_M - pads.wear_mm * 5e-4  # the back face stays where it is
        for sign, pad in zip((-1.0, 1.0), self._pad, strict=True):
            model.geom_friction[pad, 0] = friction
            model.geom_size[pad, 0] = half_m
            model.geom_pos[pad, 0] = sign * (PAD_HALF_M - half_m)
        # MuJoCo takes the larger friction of a pair: the part's own must never be the larger one, or oil on the pads
        # would change nothing.
        model.geom_friction[self._part_geom, 0] = 0.05
        mujoco.mj_setConst(model, state)
        mujoco.mj_forward(model, state)

    def _part_offset_mm(self) -> float:
        return float(1e3 * (self._state.xpos[self._part, 2] - self._state.xpos[self._hand, 2]))

    def _drop_part(self) -> None:
        """Let a lost part fall into the scrap bin: left in place it jams under the hand and fakes an overload."""
        self._state.qpos[3:6] = (1.0, 0.0, 0.05)
        self._state.qvel[3:9] = 0.0

    def _pad_force_n(self) -> float:
        """Mean normal force on a pad: what a strain gauge in the finger reads."""
        total_n = 0.0
        for i in range(self._state.ncon):
            contact = self._state.contact[i]
            if contact.geom1 in self._pad or contact.geom2 in self._pad:
                mujoco.mj_contactForce(self._model, self._state, i, self._force)
                total_n += float(self._force[0])
        return total_n / 2
