"""The simulated cell with its contact physics replaced by one inequality, so that a story costs milliseconds.

PLC, ledger, station and process image are the product's own. What is left out is what no crash can touch: how a part
slips. Configuration: the packaged one, with bounds that end a story soon.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import connectors.plant
from connectors.clock import VirtualClock
from connectors.plant.cell import Cell, CycleReport, Setpoints
from connectors.plant.conveyor import Conveyor
from connectors.plant.direct import DirectPlant
from connectors.plant.faults import Faults
from pipelines.config import Configuration, load
from pipelines.simulation import START_US

CONFIG = Path(connectors.plant.__file__).parent / "config"
CYCLE_S = 0.5
SEED = 7

QUICK: tuple[tuple[str, str, str], ...] = (
    ("plant.toml", "warm_up_rows = 60", "warm_up_rows = 10"),
    ("plant.toml", "lateness_s = 2.0", "lateness_s = 0.5"),
    ("policy.toml", "quiet_s = 30", "quiet_s = 2"),
    ("catalogue.toml", "for_cycles = 10, within_s = 90", "for_cycles = 3, within_s = 4"),
    ("catalogue.toml", "for_cycles = 3, within_s = 60", "for_cycles = 2, within_s = 20"),
)
"""File, what stands there, what stands there in a quick story."""


class QuickCell(Cell):
    """Holds while 2 * mu * F >= m * (g + a), in one line."""

    def __init__(self) -> None:
        # Not the base's: what it makes beside these two is the contact physics.
        self.faults, self.conveyor = Faults.none(), Conveyor()
        self._cycles = 0

    def cycle(self, setpoints: Setpoints) -> CycleReport:
        """Run one cycle.

        The noise is bounded and spread evenly: ten rows are a short time to learn from, and the story must not turn
        on a normal that was learnt badly.
        """
        force_n = setpoints.grip_force_n if self.faults.stuck_force_n is None else self.faults.stuck_force_n
        speed = setpoints.motion_speed_pct / 100.0
        held = 2 * self.faults.pads().friction * force_n >= 0.5 * (9.81 + 8.5 * speed**2)
        self._cycles += 1
        noise = [math.sin(2.4 * self._cycles + sensor) for sensor in range(9)]
        return CycleReport(
            took_s=CYCLE_S,
            cycle_time_s=CYCLE_S + 0.004 * noise[0],
            grip_force_n=force_n + 0.05 * noise[1],
            grip_current_a=0.12 + force_n / 30 + 0.01 * noise[2],
            finger_position_mm=22.1 + 0.02 * noise[3],
            lift_current_a=2.3 + 0.7 * speed + 0.01 * noise[4],
            lift_peak_a=1.4 + 3.8 * speed + 0.02 * noise[5],
            part_slip_mm=abs((0.05 if held else 24.0) + 0.05 * noise[6]),
            drive_current_a=3.0 + 0.03 * noise[7],
            drive_temperature_degc=60.0 + 0.1 * noise[8],
            setpoints=setpoints,
            good=bool(held),
            tripped=False,
        )


def edited(edits: tuple[tuple[str, str, str], ...]) -> Configuration:
    """Return the packaged configuration with some text replaced; each text must be there."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = {path.name: path.read_text(encoding="utf-8") for path in CONFIG.glob("*.toml")}
        for file, old, new in edits:
            assert old in files[file], f"{file} no longer says {old!r}"
            files[file] = files[file].replace(old, new)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        return load(folder)


@cache
def quick_configuration() -> Configuration:
    """Return the configuration of a quick story."""
    return edited(QUICK)


def quick_plant(configuration: Configuration, clock: VirtualClock | None = None) -> DirectPlant:
    """Return a plant of which a cycle costs microseconds."""
    plant = DirectPlant(configuration.plant.cells[0], SEED, clock or VirtualClock(START_US))
    plant.station.cell = QuickCell()
    return plant
