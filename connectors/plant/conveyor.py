"""The conveyor's drive: current by drag and speed, temperature by a first-order thermal model, thermal trip.

Not here: the belt's mechanics. The model is exact over any interval of constant current, so it may be advanced in
steps of any length.
"""

from __future__ import annotations

import math

AMBIENT_DEGC = 25.0
THERMAL_S = 420.0
"""Time constant of winding and housing."""
COPPER_K_S_A2 = 0.00926
"""Heating per ampere squared: 3.0 A settle at 60 degC."""
NO_LOAD_A, LOAD_A = 0.8, 2.2
SPEED_EXPONENT = 1.6
TRIP_DEGC = 95.0


class Conveyor:
    """The drive as it really is; sensors add their noise elsewhere."""

    def __init__(self) -> None:
        self.temperature_degc = 60.0
        self.tripped = False
        self.drag = 1.0
        """Multiple of the healthy load."""

    def current_a(self, speed_pct: float) -> float:
        """Return what the drive draws at this speed; 0 once tripped.

        >>> round(Conveyor().current_a(100.0), 3)
        3.0
        """
        return 0.0 if self.tripped else LOAD_A * self.drag * (speed_pct / 100.0) ** SPEED_EXPONENT + NO_LOAD_A

    def run(self, seconds: float, *, speed_pct: float, drag_per_s: float, drag_max: float) -> float:
        """Run at constant speed while drag grows towards its maximum; return the current in amperes."""
        self.drag = min(self.drag + drag_per_s * seconds, max(drag_max, self.drag))
        current_a = self.current_a(speed_pct)
        self._heat(seconds, current_a)
        return current_a

    def stand(self, seconds: float) -> None:
        """Stand still and cool down."""
        self._heat(seconds, 0.0)

    def mend(self) -> None:
        """Replace bearings and reset the trip."""
        self.drag, self.tripped = 1.0, False

    def _heat(self, seconds: float, current_a: float) -> None:
        settled_degc = AMBIENT_DEGC + THERMAL_S * COPPER_K_S_A2 * current_a**2
        decay = math.exp(-seconds / THERMAL_S)
        self.temperature_degc = settled_degc + (self.temperature_degc - settled_degc) * decay
        self.tripped = self.tripped or self.temperature_degc > TRIP_DEGC
