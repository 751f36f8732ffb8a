"""What can break, by name and severity, and what each fault does to pads, part, drive, regulator and sensors.

Two kinds. Faults of the *plant* change its condition; faults of a *sensor* change what is published of one tag. Any
number may be present at once. Severity 0 is healthy, 1 the value for which `config/right_plans.toml` holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from connectors.plant.mechanics import PART_MASS_NOMINAL_KG, Pads

PlantFault = Literal["oil_on_pads", "worn_pad", "heavier_part", "drive_drag", "seized_regulator"]
SensorFault = Literal["stuck_sensor", "frozen_sensor", "bad_status"]
PLANT_FAULTS: tuple[PlantFault, ...] = get_args(PlantFault)
SENSOR_FAULTS: tuple[SensorFault, ...] = get_args(SensorFault)
SEVERITY_MAX = 2.0
SENSOR_DEFAULT = "part_slip_mm"

FRICTION_HEALTHY, FRICTION_OILY, FRICTION_WORN = 0.60, 0.15, 0.10
FRICTION_MIN = 0.02
"""Not even oil on worn pads is without friction; the contact solver needs some."""
WEAR_MM = 1.5
PART_MASS_ADDED_KG = 0.65
DRAG_PER_S, DRAG_ADDED = 0.006, 0.9


@dataclass(slots=True)
class Faults:
    """The faults that are present now. The agent never sees this."""

    severity: dict[PlantFault, float]
    sensor: dict[str, SensorFault]
    """By tag name."""
    stuck_force_n: float | None = None
    """What a seized regulator drives: the force at the moment it seized."""

    @classmethod
    def none(cls) -> Faults:
        """Return a healthy state."""
        return cls({}, {})

    def inject(self, fault: str, severity: float, tag: str, *, grip_force_n: float) -> None:
        """Add a fault, change its severity, or with severity 0 take it away.

        Args:
            fault: A name of `PLANT_FAULTS` or `SENSOR_FAULTS`.
            severity: 0 to `SEVERITY_MAX`.
            tag: For sensor faults, the tag's name; empty means `SENSOR_DEFAULT`.
            grip_force_n: What the regulator drives now.

        Raises:
            ValueError: no such fault, or the severity is outside its range.
        """
        if not 0.0 <= severity <= SEVERITY_MAX:
            raise ValueError(f"severity {severity} is outside 0..{SEVERITY_MAX}")
        if fault in PLANT_FAULTS:
            self.severity[fault] = severity
            if fault == "seized_regulator":
                self.stuck_force_n = grip_force_n if severity > 0.0 else None
        elif fault in SENSOR_FAULTS:
            name = tag or SENSOR_DEFAULT
            if severity > 0.0:
                self.sensor[name] = fault
            else:
                self.sensor.pop(name, None)
        else:
            raise ValueError(f"no fault is called {fault!r}; there are {', '.join(PLANT_FAULTS + SENSOR_FAULTS)}")

    def clean_pads(self) -> None:
        """Take oil away; a worn pad stays worn."""
        self.severity.pop("oil_on_pads", None)

    def change_pads(self) -> None:
        """Fit new, dry pads."""
        self.severity.pop("oil_on_pads", None)
        self.severity.pop("worn_pad", None)

    def of(self, fault: PlantFault) -> float:
        """Return the fault's severity, 0 if it is not present."""
        return self.severity.get(fault, 0.0)

    def pads(self) -> Pads:
        """Return the condition of pads and part. Of oil and wear the more slippery one counts."""
        oily = FRICTION_HEALTHY + self.of("oil_on_pads") * (FRICTION_OILY - FRICTION_HEALTHY)
        worn = FRICTION_HEALTHY + self.of("worn_pad") * (FRICTION_WORN - FRICTION_HEALTHY)
        return Pads(
            friction=max(min(oily, worn), FRICTION_MIN),
            wear_mm=WEAR_MM * self.of("worn_pad"),
            part_mass_kg=PART_MASS_NOMINAL_KG + PART_MASS_ADDED_KG * self.of("heavier_part"),
        )

    def drag(self) -> tuple[float, float]:
        """Return growth of the drive's drag per second and where it ends, as multiples of the healthy load."""
        return DRAG_PER_S * self.of("drive_drag"), 1.0 + DRAG_ADDED * self.of("drive_drag")
