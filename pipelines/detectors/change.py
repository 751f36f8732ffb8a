"""Change: a tag begins to move, whatever comes of it: where a transition begins or ends.

A short mean leaves a level that follows within seconds and is never held: so it tells each of several changes, and is
over as soon as the level has come after. Not a state: what lasts is told by level.py. Many of its claims are nothing;
a shared pause keeps tags that move together from claiming one by one.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from pipelines.detectors.following import follow
from pipelines.detectors.port import Context, Family, Signal
from pipelines.detectors.student import limits, shared
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask, pack, unpack
from pipelines.features.row import Row
from schemas.anomalies import Severity

SHARE: Final = 0.15
MEMORY_ROWS: Final = 20.0
DOF_SHARE: Final = 0.25
NEVER: Final = np.iinfo(np.int64).max // 2


class Change:
    """Watches process tags, derived ones too, while the cell executes."""

    family: ClassVar[Family] = "process"
    severity: ClassVar[Severity] = "low"
    learns: ClassVar[bool] = True

    def __init__(self, columns: Columns, *, budget: float = 0.016, pause_rows: float = 8) -> None:
        """Begin with nothing learnt.

        Args:
            columns: The group.
            budget: Chance, shared among the group's tags, of a deviation beyond the limit in health.
            pause_rows: After a claim, rows in which the group makes no other.
        """
        n = len(columns)
        self._columns, self._pause_rows = columns, int(pause_rows)
        self._tail = shared(budget, int(columns.watched.sum()))
        self._mean, self._level, self._limit = np.zeros(n), np.zeros(n), np.full(n, np.inf)
        self._beyond: Mask = np.zeros(n, dtype=np.bool_)
        self.active: Mask = np.zeros(n, dtype=np.bool_)
        """Tags whose claim is not over."""
        self._since_rows = NEVER

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Learn the limits of these tags; their claims are forgotten."""
        self.reset(slots)
        normal = follow(block, SHARE, MEMORY_ROWS)
        self._mean[slots], self._level[slots] = normal.mean, normal.level
        limit = normal.spread * limits(self._tail, normal.crossings, DOF_SHARE)
        self._limit[slots] = np.where(normal.spread > 0, limit, np.inf)

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row. A signal that begins is a claim."""
        if not context.executing:
            return []
        judged = context.judged(self._columns.watched, row.values)
        begins, ends = self.judge(row.values, judged)
        return [self._begin(slot, row.end_at) for slot in begins] + [Signal(slot, begins=False) for slot in ends]

    def judge(self, values: Floats, judged: Mask) -> tuple[list[int], list[int]]:
        """Take one row of those tags that can be judged; return slots whose claim begins, and ends."""
        judged = judged & (self._limit < np.inf)
        x = np.where(judged, values, self._mean)
        np.copyto(self._mean, self._mean + SHARE * (x - self._mean), where=judged)
        beyond = np.abs(self._mean - self._level) > self._limit
        np.copyto(self._level, self._level + (x - self._level) / MEMORY_ROWS, where=judged)
        fresh = judged & beyond & ~self._beyond
        np.copyto(self._beyond, beyond, where=judged)
        self._since_rows = min(self._since_rows + 1, NEVER)
        if self._since_rows < self._pause_rows:
            fresh &= False
        ends = np.flatnonzero(judged & self.active & ~beyond)
        begins = np.flatnonzero(fresh)
        if len(begins):
            self._since_rows = 0
        self.active[begins], self.active[ends] = True, False
        return begins.tolist(), ends.tolist()

    def _begin(self, slot: int, end_at: int) -> Signal:
        tag, mean, level = self._columns.tags[slot], float(self._mean[slot]), float(self._level[slot])
        return Signal(
            slot,
            begins=True,
            onset_at=end_at,
            direction="up" if mean > level else "down",
            detail=f"{tag.name}: begins to move, {mean:.6g} {tag.unit} after {level:.6g} {tag.unit}",
        )

    def reset(self, slots: Counts) -> None:
        """Forget claims of these tags; where they are now is their level."""
        self.active[slots] = self._beyond[slots] = False
        self._level[slots] = self._mean[slots]

    def snapshot(self) -> bytes:
        """Return the whole memory."""
        own = {"beyond": self._beyond, "active": self.active, "since_rows": self._since_rows}
        return pack({"mean": self._mean, "level": self._level, "limit": self._limit, **own})

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        state = unpack(data)
        self._mean, self._level, self._limit = state["mean"], state["level"], state["limit"]
        self._beyond, self.active, self._since_rows = state["beyond"], state["active"], state["since_rows"]
