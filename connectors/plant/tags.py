"""What the PLC publishes: its state and the last cycle as tag, value, status and source time.

The one place that knows it. The OPC UA server and the run in one process both publish what comes from here, so that
an agent cannot tell them apart. Three occasions: the end of a cycle (all tags of the cycle with one source time, the
counter last, changed or not), every second (status), and at once (set-points, states and permissives that changed).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from connectors.plant.cell import CycleReport
from connectors.plant.faults import SensorFault
from connectors.plant.plc import Plc
from schemas.errors import ConfigError
from schemas.plant import Cell
from schemas.samples import STATUS_BAD, STATUS_GOOD

STATUS_WAITING = 0x80320000
"""BadWaitingForInitialData: no cycle has ended yet."""

LATCHED: dict[str, Callable[[CycleReport], float]] = {
    "grip_force_n": lambda r: r.grip_force_n,
    "grip_current_a": lambda r: r.grip_current_a,
    "finger_position_mm": lambda r: r.finger_position_mm,
    "lift_current_a": lambda r: r.lift_current_a,
    "lift_peak_a": lambda r: r.lift_peak_a,
    "part_slip_mm": lambda r: r.part_slip_mm,
    "drive_current_a": lambda r: r.drive_current_a,
    "drive_temperature_degc": lambda r: r.drive_temperature_degc,
    "cycle_time_s": lambda r: r.cycle_time_s,
    "grip_force_latched_sp_n": lambda r: r.setpoints.grip_force_n,
}
"""Values of one cycle, and the set-point that it was driven with."""

PRESENT: dict[str, Callable[[Plc], float]] = {
    "grip_force_sp_n": lambda p: p.setpoints.grip_force_n,
    "motion_speed_sp_pct": lambda p: p.setpoints.motion_speed_pct,
    "conveyor_speed_sp_pct": lambda p: p.setpoints.conveyor_speed_pct,
    "packml_state": lambda p: float(p.state),
    "remote_enable": lambda p: float(p.inputs.remote_enable),
    "estop_ok": lambda p: float(p.inputs.estop_ok),
    "automatic_mode": lambda p: float(p.inputs.automatic_mode),
    "agent_enable": lambda p: float(p.agent_enable),
}
"""Values that are published at once when they change."""

COUNTED: dict[str, Callable[[Plc], float]] = {
    "cycle_count": lambda p: float(p.cycle_count),
    "part_count": lambda p: float(p.part_count),
    "scrap_count": lambda p: float(p.scrap_count),
    "plc_heartbeat": lambda p: float(p.heartbeat),
}

SWITCHES = ("remote_enable", "estop_ok", "automatic_mode", "agent_enable")
"""Tags that are booleans at their source."""

LAST = "cycle_count"
"""Written after all others of the cycle: who sees the new count has the row."""


class Published(NamedTuple):
    """One value as the plant offers it."""

    name: str
    value: float
    """NaN if `status` is Bad."""
    status: int
    source_at: int
    """Plant time, microseconds since 1970 UTC."""


class Publisher:
    """The PLC's process image: what each tag shows now."""

    def __init__(self, config: Cell) -> None:
        """Begin with no cycle seen.

        Args:
            config: Its tags of group with a trigger are the cycle's, the others are status.

        Raises:
            ConfigError: a tag names a value that this PLC has not.
        """
        cyclic = {group.id for group in config.groups if group.trigger is not None}
        offered = [tag for tag in config.tags if tag.minus is None]
        for tag in offered:
            if tag.name not in LATCHED | PRESENT | COUNTED:
                raise ConfigError(
                    "plant.toml",
                    f"cells.{config.id}.tags.{tag.name}",
                    "the simulated PLC has no such value",
                    "Remove it.",
                )
        cycle = sorted((t.name for t in offered if t.group in cyclic), key=lambda name: name == LAST)
        self.cycle_tags, self.status_tags = tuple(cycle), tuple(t.name for t in offered if t.group not in cyclic)
        self.image: dict[str, Published] = {
            tag.name: Published(tag.name, math.nan, STATUS_WAITING, 0) for tag in offered
        }
        self._stuck: dict[str, float] = {}

    def start(self, plc: Plc, at_us: int) -> list[Published]:
        """Publish all that needs no cycle; after a restart of the PLC, too."""
        names = [name for name in self.image if name not in LATCHED and name != LAST]
        return self._show(((name, _present(plc, name)) for name in names), at_us)

    def cycle(self, plc: Plc, report: CycleReport, faults: Mapping[str, SensorFault], at_us: int) -> list[Published]:
        """Publish what was latched at the end of a cycle, through sensors of which some may be broken."""
        self._stuck = {name: value for name, value in self._stuck.items() if faults.get(name) == "stuck_sensor"}
        published = []
        for name in self.cycle_tags:
            value = LATCHED[name](report) if name in LATCHED else _present(plc, name)
            published.append(self._through(name, value, faults.get(name), at_us))
        return published

    def second(self, plc: Plc, at_us: int) -> list[Published]:
        """Publish the status tags."""
        return self._show(((name, _present(plc, name)) for name in self.status_tags), at_us)

    def changes(self, plc: Plc, at_us: int) -> list[Published]:
        """Publish what is to be seen at once and has changed since it was last shown."""
        present = [(name, value(plc)) for name, value in PRESENT.items() if name in self.image]
        return self._show([(name, value) for name, value in present if value != self.image[name].value], at_us)

    def _show(self, values: Iterable[tuple[str, float]], at_us: int) -> list[Published]:
        shown = [Published(name, value, STATUS_GOOD, at_us) for name, value in values]
        self.image.update((p.name, p) for p in shown)
        return shown

    def _through(self, name: str, value: float, fault: SensorFault | None, at_us: int) -> Published:
        """Return the value as the sensor, broken or not, delivers it."""
        match fault:
            case None:
                shown = Published(name, value, STATUS_GOOD, at_us)
            case "stuck_sensor":  # repeats the first value after it stuck, with fresh times
                shown = Published(name, self._stuck.setdefault(name, value), STATUS_GOOD, at_us)
            case "frozen_sensor":  # its times stop too
                shown = self.image[name]
            case "bad_status":
                shown = Published(name, math.nan, STATUS_BAD, at_us)
        self.image[name] = shown
        return shown


def _present(plc: Plc, name: str) -> float:
    return PRESENT[name](plc) if name in PRESENT else COUNTED[name](plc)
