"""PLC, plant and process image put together: one work after the other, with the times left to whoever drives it.

A driver asks `begin`, then `compute` (the only heavy part, may run in a thread), lets plant time pass, calls `second`
at each whole second of it, and `finish` at the end of the work. `server` does so paced by a clock, `direct` as fast as
it can. A fault takes effect at the next `begin`, so equal seeds and equal commands per cycle give equal reports.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from connectors.plant.cell import Cell, CycleReport
from connectors.plant.faults import SENSOR_DEFAULT, SENSOR_FAULTS, Faults
from connectors.plant.ledger import Ledger
from connectors.plant.plc import AGENT_SILENT_S, Cycle, Inputs, Maintenance, Plc, Stand, Work
from connectors.plant.tags import LATCHED, Published, Publisher
from schemas.plant import Cell as CellConfig

SECOND_US = 1_000_000
WISHES_MAX = 1000
"""Faults that wait for the end of the present work."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a work will have been when its time is over."""

    takes_us: int
    report: CycleReport | None
    """Of a cycle; None for anything else."""


class Station:
    """See the module. Only `compute` may be called from another thread."""

    def __init__(
        self,
        config: CellConfig,
        seed: int,
        *,
        ledger: Path | None,
        now_us: Callable[[], int],
        wall_us: Callable[[], int],
        agent_silent_s: float = AGENT_SILENT_S,
    ) -> None:
        """Come up.

        Args:
            config: The cell whose tags are published.
            seed: Of everything in the plant that is chance.
            ledger: The PLC's durable memory; None: in memory, kept over `restart` only.
            now_us: Plant time, microseconds since 1970 UTC.
            wall_us: Wall time of any origin, for the agent's heartbeat.
            agent_silent_s: See `connectors.plant.plc`.

        Raises:
            ConfigError: a tag that this PLC has not, or an unusable ledger.
        """
        self.cell, self.inputs = Cell(seed), Inputs()
        self._config, self._path, self._clocks = config, ledger, (now_us, wall_us)
        self._agent_silent_s = agent_silent_s
        self._ledger = Ledger(ledger)
        self._wishes: list[Callable[[], None]] = []
        self._computing = threading.Lock()
        self._power_up()

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def restart(self) -> None:
        """Take the power from the PLC and give it back. What it retains comes from disk; the plant stays as it is."""
        if self._path is not None:
            self._ledger.close()
            self._ledger = Ledger(self._path)
        self._power_up()

    def _power_up(self) -> None:
        now_us, wall_us = self._clocks
        self.publisher = Publisher(self._config)
        self.plc = Plc(self._ledger, self.inputs, now_us=now_us, wall_us=wall_us, agent_silent_s=self._agent_silent_s)

    # -------------------------------------------------------------- one work

    def begin(self) -> Work:
        """Let waiting faults take effect and return what is done next."""
        with self._computing:
            for wish in self._wishes:
                wish()
            self._wishes.clear()
        return self.plc.begin()

    def compute(self, work: Work, at_us: int) -> Outcome:
        """Work out what happens from `at_us` on. A cycle costs about 15 ms of one core."""
        match work:
            case Cycle(setpoints):
                with self._computing:
                    report = self.cell.cycle(setpoints)
                return Outcome(round(report.took_s * SECOND_US), report)
            case Maintenance(_, takes_s):
                return Outcome(round(takes_s * SECOND_US), None)
            case Stand(takes_s):
                until_next_second_us = SECOND_US - at_us % SECOND_US
                return Outcome(until_next_second_us if takes_s is None else round(takes_s * SECOND_US), None)

    def finish(self, work: Work, outcome: Outcome, at_us: int) -> list[Published]:
        """Make the work's effect real and return what is published at its end, in order."""
        published: list[Published] = []
        if outcome.report is None:
            self.cell.stand(outcome.takes_us / SECOND_US)
        elif self.plc.cycle_ended(outcome.report):
            published = self.publisher.cycle(self.plc, outcome.report, self.cell.faults.sensor, at_us)
            if outcome.report.tripped:
                self.plc.abort()
        match work:
            case Maintenance(verb, _) if self.plc.sequence_running():
                self.cell.faults.clean_pads() if verb == "CleanPads" else self.cell.faults.change_pads()
                self.plc.sequence_ended()
            case Stand(takes_s) if takes_s is not None:
                self.plc.stood()
        return published + self.changes(at_us)

    def second(self, at_us: int) -> list[Published]:
        """Count the heartbeat and return the status tags."""
        self.plc.second()
        return self.publisher.second(self.plc, at_us)

    def start(self, at_us: int) -> list[Published]:
        """Return what is published when the PLC has come up."""
        return self.publisher.start(self.plc, at_us)

    def changes(self, at_us: int) -> list[Published]:
        """Return what has changed by command or by hand and is to be seen at once."""
        return self.publisher.changes(self.plc, at_us)

    # -------------------------------------------------------------- the hidden hand

    def inject(self, fault: str, severity: float, tag: str = "") -> None:
        """Break something from the next cycle on; severity 0 mends it.

        Raises:
            ValueError: no such fault or tag, the severity is outside its range, or too many wishes wait.
        """
        Faults.none().inject(fault, severity, tag, grip_force_n=0.0)
        if fault in SENSOR_FAULTS and (tag or SENSOR_DEFAULT) not in LATCHED:
            raise ValueError(f"no sensor delivers {tag!r}; there are {', '.join(LATCHED)}")
        self._wish(lambda: self.cell.inject(fault, severity, tag, setpoints=self.plc.setpoints))

    def clear_faults(self) -> None:
        """Mend everything from the next cycle on."""
        self._wish(self.cell.clear_faults)

    def set_permissive(self, name: str, value: bool) -> None:
        """Turn a switch at the cell: `remote_enable`, `estop_ok`, `automatic_mode` or `agent_enable`.

        Raises:
            ValueError: there is no such switch.
        """
        if name == "agent_enable":
            self.plc.switch_agent(value)
        elif name in ("remote_enable", "estop_ok", "automatic_mode"):
            setattr(self.inputs, name, value)
            self.plc.read_inputs()
        else:
            raise ValueError(
                f"no switch is called {name!r}; there are remote_enable, estop_ok, automatic_mode, agent_enable"
            )

    def _wish(self, wish: Callable[[], None]) -> None:
        if len(self._wishes) >= WISHES_MAX:
            raise ValueError(f"{WISHES_MAX} faults wait for the end of the cycle already")
        self._wishes.append(wish)
