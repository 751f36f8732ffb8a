"""Unusual: a tag does what it has not done before, at a value, in a pattern of rows or in its level.

For a tag that is watched by itself and whose normal nobody can state: no limit, no model, a rhythm perhaps. It goes on
learning, so it is told once when something begins, and a new normal is normal after about three warm-ups: what has to
stay an alarm for as long as it lasts is for `limit` and `shift`. It cries by chance: on white noise 1.6 times in 1,000
rows with a warm-up of 300, 0.1 times with `alarm_decades` 2, so raise that in a group of many tags. It takes 0.13 ms a
tag and row.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from pipelines.detectors.own_past.novelty import ALARM, Judged, Novelty
from pipelines.detectors.port import Context, Family, Signal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask, pack, unpack
from pipelines.features.row import Row
from schemas.anomalies import Severity

CLEAR_ROWS: Final = 12
"""Rows below the alarm before a condition ends: as many as the rows whose pattern is compared."""


class Unusual:
    """Watches process tags while the cell executes."""

    family: ClassVar[Family] = "process"
    severity: ClassVar[Severity] = "low"
    learns: ClassVar[bool] = True

    def __init__(self, columns: Columns, *, alarm_decades: float = ALARM, clear_rows: float = CLEAR_ROWS) -> None:
        self._columns, self._alarm, self._clear_rows = columns, alarm_decades, int(clear_rows)
        self._novelty: dict[int, Novelty] = {}
        self._active: Mask = np.zeros(len(columns), dtype=np.bool_)
        self._within: Counts = np.zeros(len(columns), dtype=np.int64)

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Learn from the warm-up; its length is the unit of all memories. A tag learnt anew forgets what was before."""
        for slot, column in zip(slots.tolist(), block.T, strict=True):
            self._novelty[slot] = Novelty(len(column), alarm=self._alarm)
            self._novelty[slot].scores(column)

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row. Rows outside EXECUTE, and values that are blocked or doubtful, are not learnt from either."""
        if not context.executing or not self._novelty:
            return []
        judged = context.baseline.known & context.judged(self._columns.watched, row.values)
        signals = []
        for slot in np.flatnonzero(judged).tolist():
            if slot in self._novelty:
                signals += self._judge(slot, row, context)
        return signals

    def _judge(self, slot: int, row: Row, context: Context) -> list[Signal]:
        judged = self._novelty[slot].update(float(row.values[slot]))
        self._within[slot] = 0 if judged.surprise >= self._alarm else self._within[slot] + 1
        if not self._active[slot] and judged.burst > 0.0:
            self._active[slot] = True
            return [self._begin(slot, row, context, judged)]
        if self._active[slot] and self._within[slot] >= self._clear_rows:
            self._active[slot] = False
            return [Signal(slot, begins=False)]
        return []

    def _begin(self, slot: int, row: Row, context: Context, judged: Judged) -> Signal:
        value, tag, normal = float(row.values[slot]), self._columns.tags[slot], float(context.baseline.centre[slot])
        return Signal(
            slot,
            begins=True,
            onset_at=row.end_at,
            direction="up" if value > normal else "down" if value < normal else "none",
            detail=f"{tag.name}: {value:.6g} {tag.unit} is unlike its past (surprise {judged.surprise:.3g} decades)",
        )

    def reset(self, slots: Counts) -> None:
        """End episodes and conditions of these tags; what was learnt stays."""
        self._active[slots], self._within[slots] = False, 0
        for slot in slots.tolist():
            if slot in self._novelty:
                self._novelty[slot].forgive()

    def snapshot(self) -> bytes:
        """Return the whole memory: at most about 56 kB a tag."""
        learnt = [[slot, novelty.state()] for slot, novelty in sorted(self._novelty.items())]
        return pack({"active": self._active, "within": self._within, "novelty": learnt})

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        state = unpack(data)
        self._active, self._within = state["active"], state["within"]
        self._novelty = {slot: Novelty.of(kept, alarm=self._alarm) for slot, kept in state["novelty"]}
