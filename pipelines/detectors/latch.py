"""Persistence: a condition begins after some rows in a row beyond, and ends after some rows in a row within.

Rows that cannot be judged (no value, bad data, another PackML state) neither count nor break a run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.features.packed import Counts, Mask, pack, unpack


class Latch:
    """One condition per tag of a group."""

    def __init__(self, open_rows: int | Counts, clear_rows: int | Counts, n: int) -> None:
        """Begin with no condition.

        Args:
            open_rows: Rows beyond before a condition begins, for all tags or shape `(n,)`.
            clear_rows: Rows within before it ends.
            n: Tags.
        """
        self._open_rows, self._clear_rows = open_rows, clear_rows
        self._beyond = np.zeros(n, dtype=np.int64)
        self._within = np.zeros(n, dtype=np.int64)
        self._onset_at = np.zeros(n, dtype=np.int64)
        self.active = np.zeros(n, dtype=np.bool_)
        self.quiet = True
        """Whether no run and no condition is under way: a row with nothing beyond then changes nothing."""

    def step(self, end_at: int, beyond: Mask, judged: Mask) -> tuple[list[int], list[int]]:
        """Count one row.

        Args:
            end_at: End of the row, microseconds since 1970 UTC.
            beyond: Tags beyond their limit, shape `(n,)`.
            judged: Tags that count at all in this row.

        Returns:
            Slots whose condition begins, and slots whose condition ends, both ascending.
        """
        beyond = beyond & judged
        if self.quiet and not np.count_nonzero(beyond):
            return [], []
        within = judged & ~beyond
        self._onset_at[beyond & (self._beyond == 0) & ~self.active] = end_at
        self._beyond[beyond] += 1
        self._beyond[within] = 0
        self._within[within & self.active] += 1
        self._within[beyond] = 0
        begins = ~self.active & beyond & (self._beyond >= self._open_rows)
        ends = self.active & within & (self._within >= self._clear_rows)
        self.active[begins], self.active[ends] = True, False
        self._within[begins | ends] = 0
        self.quiet = not (self.active.any() or self._beyond.any())
        return np.flatnonzero(begins).tolist(), np.flatnonzero(ends).tolist()

    def onset_at(self, slot: int) -> int:
        """End of the first row of the present excursion."""
        return int(self._onset_at[slot])

    def interrupt(self) -> None:
        """Let runs begin anew; open conditions stay open."""
        if not self.quiet:
            self._beyond[:] = self._within[:] = 0
            self.quiet = not self.active.any()

    def reset(self, slots: Counts) -> None:
        """Forget runs and open conditions of these tags."""
        self._beyond[slots] = self._within[slots] = self._onset_at[slots] = 0
        self.active[slots] = False

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {"beyond": self._beyond, "within": self._within, "onset_at": self._onset_at, "active": self.active}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self._beyond, self._within = state["beyond"], state["within"]
        self._onset_at, self.active = state["onset_at"], state["active"]
        self.quiet = not (self.active.any() or self._beyond.any())


class Latched:
    """The closing part of a detector whose whole memory is one latch."""

    _latch: Latch

    def reset(self, slots: Counts) -> None:
        """Forget counts and open conditions of these tags."""
        self._latch.reset(slots)

    def snapshot(self) -> bytes:
        """Return the whole memory."""
        return pack(self._latch.state())

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        self._latch.load(unpack(data))
