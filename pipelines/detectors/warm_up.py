"""What tags are learnt from: good rows of an executing cell, as many as the group says, each tag at its own pace."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask

RELEARN_ROWS_MIN = 20
"""With fewer rows the spread comes out too small too often, and healthy rows look like a shift."""
RELEARN_DIVISOR = 2
"""A tag whose normal moved on purpose learns `warm_up_rows // 2` rows anew: half the rows, to see faults soon again."""


class WarmUp:
    """The rows gathered so far. Only process tags that are watched learn."""

    def __init__(self, columns: Columns) -> None:
        n, rows = len(columns), columns.group.warm_up_rows
        self._rows = rows
        self.learning: Mask = columns.watched.copy()
        self._watched = columns.watched
        self._target = np.full(n, rows, dtype=np.int64)
        self._count = np.zeros(n, dtype=np.int64)
        self._not_before = np.zeros(n, dtype=np.int64)
        self._buffer = np.zeros((rows, n))
        self._any = bool(self.learning.any())

    @property
    def over(self) -> bool:
        """Whether no tag learns."""
        return not self._any

    def take(self, end_at: int, values: Floats, usable: Mask) -> list[tuple[Counts, Floats]]:
        """Keep one row.

        Args:
            end_at: End of the row, microseconds since 1970 UTC.
            values: Shape `(n,)`; NaN is passed over.
            usable: Tags from which this row may be learnt.

        Returns:
            Tags that have now enough, with their block of shape `(rows, k)`; mostly empty.
        """
        if not self._any:
            return []
        taken = self.learning & usable & (values == values) & (end_at > self._not_before)
        slots = np.flatnonzero(taken)
        self._buffer[self._count[slots], slots] = values[slots]
        self._count[slots] += 1
        full = np.flatnonzero(self.learning & (self._count >= self._target))
        if not len(full):
            return []
        done = []
        for rows in np.unique(self._target[full]).tolist():
            some = full[self._target[full] == rows]
            done.append((some, self._buffer[:rows, some].copy()))
        self.learning[full] = False
        self._buffer[:, full] = 0.0
        self._any = bool(self.learning.any())
        return done

    def finish(self, slots: Counts) -> None:
        """Learn nothing of these tags: somebody else knows their normal."""
        self.learning[slots] = False
        self._any = bool(self.learning.any())

    def begin_again(self, slots: Counts, not_before: int) -> None:
        """Learn these tags anew from rows that end after `not_before`."""
        slots = slots[self._watched[slots]]
        self.learning[slots] = True
        self._target[slots] = min(self._rows, max(RELEARN_ROWS_MIN, self._rows // RELEARN_DIVISOR))
        self._count[slots] = 0
        self._not_before[slots] = not_before
        self._buffer[:, slots] = 0.0
        self._any = bool(self.learning.any())

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {
            "learning": self.learning,
            "target": self._target,
            "count": self._count,
            "not_before": self._not_before,
            "buffer": self._buffer if self._any else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self.learning, self._target, self._count = state["learning"], state["target"], state["count"]
        self._not_before = state["not_before"]
        self._buffer = np.zeros_like(self._buffer) if state["buffer"] is None else state["buffer"]
        self._any = bool(self.learning.any())
