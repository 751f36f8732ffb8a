"""Shift: a process tag stays far from its learnt median, measured in robust standard deviations.

The baseline is frozen: nothing is learnt after the warm-up, so a slow fault cannot teach the detector that it is
normal. Single excursions beyond 6 happen in healthy operation (heavy tails), three rows in a row do not. Blind to a
drift that stays within the threshold, and to changes of variance.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipelines.detectors.latch import Latch, Latched
from pipelines.detectors.port import Context, Family, Signal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats
from pipelines.features.row import Row
from schemas.anomalies import Severity


class Shift(Latched):
    """Watches process tags, derived ones too, while the cell executes."""

    family: ClassVar[Family] = "process"
    severity: ClassVar[Severity] = "medium"
    learns: ClassVar[bool] = True

    def __init__(self, columns: Columns, *, z_limit: float = 6.0, open_rows: float = 3, clear_rows: float = 5) -> None:
        self._columns, self._z_limit = columns, z_limit
        self._any = bool(columns.watched.any())
        self._latch = Latch(int(open_rows), int(clear_rows), len(columns))

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Nothing: the baseline is the group's, in the context."""

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row. Outside EXECUTE runs begin anew, and what is open stays open until normal rows clear it."""
        if not context.executing or not self._any:
            self._latch.interrupt()
            return []
        deviation = np.abs(context.z)
        judged = context.judged(self._columns.watched, deviation)
        begins, ends = self._latch.step(row.end_at, deviation > self._z_limit, judged)
        return [self._begin(slot, row, context) for slot in begins] + [Signal(slot, begins=False) for slot in ends]

    def _begin(self, slot: int, row: Row, context: Context) -> Signal:
        value, z, tag = float(row.values[slot]), float(context.z[slot]), self._columns.tags[slot]
        normal = float(context.baseline.centre[slot])
        return Signal(
            slot,
            begins=True,
            onset_at=self._latch.onset_at(slot),
            direction="up" if z > 0 else "down",
            detail=f"{tag.name}: {value:.6g} {tag.unit} is {z:+.3g} robust standard deviations from {normal:.6g}",
        )
