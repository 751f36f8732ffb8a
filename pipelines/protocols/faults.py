"""Tennessee Eastman: a fault from row 160 on in each test file; missed rows by fault, false alarms before and without.

Source: Russell, Chiang, Braatz, Data-driven Methods for Fault Detection and Diagnosis in Chemical Processes, 2000,
chapter 8: missed detection rate and detection delay. Faults 3, 9 and 15 hardly change any mean or variance there, so
the mean over the others is what methods are compared by; it stands beside the mean over all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.features.packed import Mask

ONSET_ROW: Final = 160
HARD: Final = frozenset({"d03", "d09", "d15"})
STEP_S: Final = 180.0
"""Of the recordings."""
DETECTED_BELOW: Final = 0.9
"""A fault of which fewer rows are missed counts as detected."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One test file with a fault."""

    name: str
    missed: float
    """Part of the rows from the onset on without an alarm."""
    delay_rows: int | None
    """From the onset to the first alarmed row; None: never."""
    false_before: int
    """Alarmed rows before the onset."""

    @classmethod
    def of(cls, name: str, alarm: Mask) -> Fault:
        """Judge the alarms of a test file, shape `(n,)` with `n` above `ONSET_ROW`."""
        after = alarm[ONSET_ROW:]
        alarmed = np.flatnonzero(after)
        delay = int(alarmed[0]) if len(alarmed) else None
        return cls(name, float(1 - after.mean()), delay, int(np.count_nonzero(alarm[:ONSET_ROW])))


@dataclass(frozen=True, slots=True)
class Faults:
    """All test files."""

    faults: tuple[Fault, ...]
    normal_rows: int = 0
    """Of files without a fault."""
    normal_alarms: int = 0

    @property
    def far_pct(self) -> float:
        """Alarmed rows among the normal ones: files without a fault, and rows before the onset."""
        false = self.normal_alarms + sum(fault.false_before for fault in self.faults)
        return 100 * false / max(self.normal_rows + ONSET_ROW * len(self.faults), 1)

    @property
    def missed_all(self) -> float | None:
        """Mean over all faults; None: there is none."""
        return _mean([fault.missed for fault in self.faults])

    @property
    def missed(self) -> float | None:
        """Mean over the faults besides 3, 9 and 15."""
        return _mean([fault.missed for fault in self.faults if fault.name not in HARD])

    @property
    def missed_hard(self) -> float | None:
        """Mean over 3, 9 and 15."""
        return _mean([fault.missed for fault in self.faults if fault.name in HARD])

    @property
    def detected(self) -> int:
        """Faults of which less than nine tenths of the rows were missed."""
        return sum(fault.missed < DETECTED_BELOW for fault in self.faults)

    @property
    def delay_median_rows(self) -> float | None:
        """Over the faults besides 3, 9 and 15 that were alarmed at all."""
        delays = [f.delay_rows for f in self.faults if f.name not in HARD and f.delay_rows is not None]
        return float(np.median(delays)) if delays else None


def _mean(numbers: list[float]) -> float | None:
    return float(np.mean(numbers)) if numbers else None
