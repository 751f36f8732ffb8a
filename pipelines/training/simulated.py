"""The simulated cell as the generator knows it: its faults as they show themselves on it, and their right plans.

Which signs a fault has was seen on the cell; which action mends it is that of `right_plans.toml`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import connectors.plant
from agent.reasoning.repertoire import repertoire_of
from pipelines.config import load
from pipelines.training.cells import TrainingCell
from pipelines.training.faults import Fault
from schemas.plans import PlannedAction
from schemas.playbook import Bucket

CONFIG: Final = Path(connectors.plant.__file__).parent / "config"
HIGH: Final[tuple[Bucket, ...]] = ("high", "very_high")
FAULTS: Final = (
    Fault("worn_pad", "gripper", {"finger_position_mm": HIGH}, {}, ("part_slip_mm",), (PlannedAction("change_pads"),)),
    Fault(
        "heavier_part", "gripper", {"lift_peak_a": HIGH}, {}, ("lift_current_a", "part_slip_mm"),
        (PlannedAction("set_motion_speed", {"motion_speed_pct": 50.0}),),
    ),
    Fault(
        "oil_on_pads", "gripper", {"part_slip_mm": HIGH},
        {"finger_position_mm": ("normal",), "lift_peak_a": ("normal", "low", "very_low")}, (),
        (PlannedAction("set_grip_force", {"grip_force_n": 40.0}),),
    ),
    Fault(
        "drive_drag", "drive", {"drive_current_a": HIGH}, {}, ("drive_temperature_degc", "cycle_time_s"),
        (PlannedAction("set_conveyor_speed", {"conveyor_speed_pct": 60.0}),),
    ),
)  # fmt: skip


@cache
def simulated_cell() -> TrainingCell:
    """Return the simulated cell with its own playbook."""
    configuration = load(CONFIG)
    rules = configuration.rules_for(configuration.plant.cells[0])
    return TrainingCell(repertoire_of(rules, configuration.playbook), configuration.playbook, FAULTS)
