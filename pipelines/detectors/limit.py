"""Hard limits: never learnt, never moved, in every PackML state. What "mended" means."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipelines.detectors.latch import Latch, Latched
from pipelines.detectors.port import Context, Family, Signal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats
from pipelines.features.row import Row
from schemas.anomalies import Severity


class Limit(Latched):
    """Watches tags with limits, of whatever role. A value on the limit is within."""

    family: ClassVar[Family] = "process"
    severity: ClassVar[Severity] = "high"
    learns: ClassVar[bool] = False

    def __init__(self, columns: Columns) -> None:
        limits = [tag.limits for tag in columns.tags]
        self._columns = columns
        rows = np.array([1 if x is None else x.rows for x in limits], dtype=np.int64)
        self._latch = Latch(rows, rows, len(columns))
        self._any = any(limits)

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Nothing: hard limits are given."""

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row. NaN is not judged."""
        if not self._any:
            return []
        beyond = self._columns.beyond_limits(row.values)
        judged = (row.values == row.values) & ~context.blocked
        begins, ends = self._latch.step(row.end_at, beyond, judged)
        return [self._begin(slot, row) for slot in begins] + [Signal(slot, begins=False) for slot in ends]

    def _begin(self, slot: int, row: Row) -> Signal:
        value, tag = float(row.values[slot]), self._columns.tags[slot]
        high = float(self._columns.limit_high[slot])
        above = value > high
        limit = high if above else float(self._columns.limit_low[slot])
        side = "above the high limit" if above else "below the low limit"
        return Signal(
            slot,
            begins=True,
            onset_at=self._latch.onset_at(slot),
            direction="up" if above else "down",
            detail=f"{tag.name}: {value:.6g} {tag.unit} is {side} of {limit:g} {tag.unit}",
        )
