"""The plant itself: gripper, lift and conveyor, their faults, and the noise of their sensors.

Not here: clock, PLC, socket, detector. Equal seeds and equal set-points and faults per cycle give equal reports, bit
for bit on one machine and build (MuJoCo promises no more).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectors.plant.conveyor import Conveyor
from connectors.plant.faults import Faults
from connectors.plant.mechanics import Gripper

OPEN_S = 0.25
PITCH_S = 0.80
"""Time for the conveyor to bring the next part at 100 % speed."""
SCRAP_MM = 10.0
"""Slip above which the part is placed wrongly and counts as scrap."""


@dataclass(frozen=True, slots=True)
class Setpoints:
    """What the PLC asks of the plant."""

    grip_force_n: float = 15.0
    motion_speed_pct: float = 100.0
    conveyor_speed_pct: float = 100.0


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What can be latched at the end of a cycle: one value a tag, so that cycles can be compared."""

    took_s: float
    """The true duration, a multiple of 1 ms; how long the cycle occupies the plant."""
    cycle_time_s: float
    grip_force_n: float
    grip_current_a: float
    finger_position_mm: float
    lift_current_a: float
    lift_peak_a: float
    part_slip_mm: float
    drive_current_a: float
    drive_temperature_degc: float
    setpoints: Setpoints
    """What the cycle was driven with."""
    good: bool
    """False: the part is scrap."""
    tripped: bool
    """The drive's thermal protection has switched it off."""


class Cell:
    """The plant. Not thread-safe; one caller at a time."""

    def __init__(self, seed: int) -> None:
        self.faults = Faults.none()
        self.conveyor = Conveyor()
        self._gripper = Gripper()
        self._random = np.random.default_rng(seed)

    def cycle(self, setpoints: Setpoints) -> CycleReport:
        """Run one cycle; about 15 ms of one core for 2.7 s of plant time."""
        force_n = setpoints.grip_force_n if self.faults.stuck_force_n is None else self.faults.stuck_force_n
        move = self._gripper.move(
            self.faults.pads(), self._random, grip_force_n=force_n, motion_speed_pct=setpoints.motion_speed_pct
        )
        took_s = round(move.took_s + OPEN_S + PITCH_S * 100.0 / setpoints.conveyor_speed_pct, 3)
        drag_per_s, drag_max = self.faults.drag()
        drive_a = self.conveyor.run(
            took_s, speed_pct=setpoints.conveyor_speed_pct, drag_per_s=drag_per_s, drag_max=drag_max
        )
        # One draw per sensor and cycle whatever is broken, so that a fault does not shift the noise of the others.
        noise = [float(x) for x in self._random.standard_normal(9)]
        return CycleReport(
            took_s=took_s,
            cycle_time_s=round(took_s + 0.004 * noise[0], 4),
            grip_force_n=round(move.grip_force_n + 0.05 * noise[1], 3),
            grip_current_a=round(0.12 + force_n / 30.0 + 0.01 * noise[2], 4),
            finger_position_mm=round(move.finger_position_mm + 0.02 * noise[3], 3),
            lift_current_a=round(move.lift_current_a + 0.01 * noise[4], 4),
            lift_peak_a=round(move.lift_peak_a + 0.02 * noise[5], 4),
            part_slip_mm=round(abs(move.slip_mm + 0.05 * noise[6]), 3),
            drive_current_a=round(drive_a + 0.03 * noise[7], 4),
            drive_temperature_degc=round(self.conveyor.temperature_degc + 0.1 * noise[8], 2),
            setpoints=setpoints,
            good=move.slip_mm <= SCRAP_MM and not self.conveyor.tripped,
            tripped=self.conveyor.tripped,
        )

    def stand(self, seconds: float) -> None:
        """Let plant time pass without a cycle."""
        self.conveyor.stand(seconds)

    def inject(self, fault: str, severity: float, tag: str, *, setpoints: Setpoints) -> None:
        """Break something; see `Faults.inject`."""
        self.faults.inject(fault, severity, tag, grip_force_n=setpoints.grip_force_n)

    def clear_faults(self) -> None:
        """Mend everything, the drive's drag and trip too. Temperature falls by itself."""
        self.faults = Faults.none()
        self.conveyor.mend()
