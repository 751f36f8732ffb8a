"""Quality: a tag whose latest sample is explicitly not good, row after row.

Not good: a StatusCode that is Bad or Uncertain, NaN, infinity, or a value outside the range that the tag can have.
"""

from __future__ import annotations

from typing import ClassVar

from pipelines.detectors.latch import Latch, Latched
from pipelines.detectors.port import Context, Family, Signal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats
from pipelines.features.row import BAD, Row
from schemas.anomalies import Severity


class Quality(Latched):
    """Watches every measured tag, of whatever role."""

    family: ClassVar[Family] = "data"
    severity: ClassVar[Severity] = "low"
    learns: ClassVar[bool] = False

    def __init__(self, columns: Columns, *, open_rows: float = 3, clear_rows: float = 3) -> None:
        self._columns = columns
        self._latch = Latch(int(open_rows), int(clear_rows), len(columns))

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Nothing to learn."""

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row."""
        if row.sound and self._latch.quiet:
            return []
        bad = (row.flags & BAD) != 0
        begins, ends = self._latch.step(row.end_at, bad, self._columns.measured & ~context.blocked)
        return [self._begin(slot, row) for slot in begins] + [Signal(slot, begins=False) for slot in ends]

    def _begin(self, slot: int, row: Row) -> Signal:
        detail = f"{row.tags[slot]}: the source marks the value as not good, or it is not a number in the tag's range"
        return Signal(slot, begins=True, onset_at=self._latch.onset_at(slot), detail=detail)
