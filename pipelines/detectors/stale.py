"""Stale: nothing new comes from a tag although its source lives.

Two ways to see it: no sample for longer than `hold_s` (or the collector says so); and, on a group with a trigger, a
tag that misses its latch row after row although in the warm-up it came with nearly every one. An unchanged value alone
is not stale: a server that sends only changes never latches a constant tag, and the warm-up shows that.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipelines.detectors.latch import Latch
from pipelines.detectors.port import Context, Family, Signal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, pack, unpack
from pipelines.features.row import MISSING, STALE, Row
from schemas.anomalies import Severity

FRESH_PART_MIN = 0.9
"""Part of the warm-up rows with a sample from which on a tag counts as latched with every row."""


class Stale:
    """Watches every measured tag; missed latches only on groups with a trigger."""

    family: ClassVar[Family] = "data"
    severity: ClassVar[Severity] = "low"
    learns: ClassVar[bool] = False

    def __init__(
        self, columns: Columns, *, open_rows: float = 2, clear_rows: float = 2, missed_rows: float = 3
    ) -> None:
        n = len(columns)
        self._columns, self._missed_rows = columns, int(missed_rows)
        self._latch = Latch(int(open_rows), int(clear_rows), n)
        self._missed = np.zeros(n, dtype=np.int64)
        self._rows = 0
        self._fresh_rows = np.zeros(n, dtype=np.int64)

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Nothing: which tags are latched is counted row by row."""

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row."""
        stale = (row.flags & STALE) != 0
        if self._columns.group.trigger is not None:
            stale |= self._missed_latches(row)
        elif row.sound and self._latch.quiet:
            return []
        judged = self._columns.measured & ~context.blocked & ((row.flags & MISSING) == 0)
        begins, ends = self._latch.step(row.end_at, stale, judged)
        return [self._begin(slot, row) for slot in begins] + [Signal(slot, begins=False) for slot in ends]

    def _missed_latches(self, row: Row) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Count, over the first `warm_up_rows` rows, who comes with every row; after that, who does not any more."""
        if self._rows < self._columns.group.warm_up_rows:
            self._rows += 1
            self._fresh_rows += row.fresh
            return np.zeros(len(self._columns), dtype=np.bool_)
        self._missed = np.where(row.fresh, 0, self._missed + 1)
        latched = self._fresh_rows >= FRESH_PART_MIN * self._rows
        return latched & (self._missed >= self._missed_rows)

    def _begin(self, slot: int, row: Row) -> Signal:
        hold_s = self._columns.tags[slot].hold_s
        missed = int(self._missed[slot])
        why = f"missed {missed} rows" if missed >= self._missed_rows else f"silent for more than {hold_s:g} s"
        detail = f"{row.tags[slot]}: {why} while its source lives"
        return Signal(slot, begins=True, onset_at=self._latch.onset_at(slot), detail=detail)

    def reset(self, slots: Counts) -> None:
        """Forget counts and open conditions of these tags."""
        self._latch.reset(slots)
        self._missed[slots] = 0

    def snapshot(self) -> bytes:
        """Return the whole memory."""
        counts = {"missed": self._missed, "rows": self._rows, "fresh_rows": self._fresh_rows}
        return pack({"latch": self._latch.state(), **counts})

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        state = unpack(data)
        self._latch.load(state["latch"])
        self._missed, self._rows, self._fresh_rows = state["missed"], state["rows"], state["fresh_rows"]
