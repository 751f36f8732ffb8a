"""Stuck: fresh samples repeat exactly the same value, although the warm-up showed that the tag varies.

Fails to see a sensor that is stuck and noisy, and is silent for tags that repeat themselves by nature.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from pipelines.detectors.latch import Latch
from pipelines.detectors.port import Context, Family, Signal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, pack, unpack
from pipelines.features.row import BAD, Row
from schemas.anomalies import Severity

NEVER: Final = np.iinfo(np.int64).max // 2
"""Repeats allowed for a tag whose variety is not known."""

NATURAL_RUN_FACTOR: Final = 5
"""Runs this many times longer than the longest of the warm-up do not happen by themselves: runs of repeats are
geometric, so with a longest one of r in 60 rows, one of 5 r has a chance of about 60**-5."""

VARIED_PART: Final = 10
"""A tag varies if its longest run in the warm-up is shorter than the warm-up divided by this."""


class Stuck:
    """Watches process tags that are measured."""

    family: ClassVar[Family] = "data"
    severity: ClassVar[Severity] = "low"
    learns: ClassVar[bool] = False

    def __init__(self, columns: Columns, *, repeats: float = 5) -> None:
        n = len(columns)
        self._repeats_min = int(repeats)
        self._watched = columns.watched & columns.measured
        self._any = bool(self._watched.any())
        self._latch = Latch(1, 1, n)
        self._natural = np.full(n, NEVER)
        self._allowed = np.full(n, NEVER)
        self._last = np.full(n, np.nan)
        self._repeats = np.zeros(n, dtype=np.int64)
        self._since_at = np.zeros(n, dtype=np.int64)

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Learn the longest run of repeats of each tag."""
        natural = _longest_run(block)
        varied = natural < len(block) // VARIED_PART
        self._natural[slots] = np.where(varied, natural, NEVER)
        allowed = np.maximum(self._repeats_min, NATURAL_RUN_FACTOR * natural)
        self._allowed[slots] = np.where(varied, allowed, NEVER)

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row; also mark tags as doubtful as soon as they repeat more than the warm-up ever did."""
        if not self._any:
            return []
        judged = self._watched & row.fresh & ((row.flags & BAD) == 0) & (row.values == row.values)
        same = judged & (row.values == self._last)
        stuck, changed = same, judged
        if np.count_nonzero(same):
            changed = judged & ~same
            self._repeats[same] += 1
            context.doubtful |= same & (self._repeats > self._natural)
            stuck = same & (self._repeats >= self._allowed)
        np.copyto(self._repeats, 0, where=changed)
        np.copyto(self._since_at, row.end_at, where=changed)
        np.copyto(self._last, row.values, where=judged)
        begins, ends = self._latch.step(row.end_at, stuck, judged & ~context.blocked)
        return [self._begin(slot, row) for slot in begins] + [Signal(slot, begins=False) for slot in ends]

    def _begin(self, slot: int, row: Row) -> Signal:
        detail = f"{row.tags[slot]}: exactly {row.values[slot]:.6g} in {int(self._repeats[slot]) + 1} rows in a row"
        return Signal(slot, begins=True, onset_at=int(self._since_at[slot]), detail=detail)

    def reset(self, slots: Counts) -> None:
        """Forget counts and open conditions of these tags."""
        self._latch.reset(slots)
        self._repeats[slots] = 0
        self._last[slots] = np.nan

    def snapshot(self) -> bytes:
        """Return the whole memory."""
        arrays = {name: getattr(self, f"_{name}") for name in _ARRAYS}
        return pack({"latch": self._latch.state(), **arrays})

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        state = unpack(data)
        self._latch.load(state["latch"])
        for name in _ARRAYS:
            setattr(self, f"_{name}", state[name])


_ARRAYS = ("natural", "allowed", "last", "repeats", "since_at")


def _longest_run(block: Floats) -> Counts:
    """Return the longest run of repeats per column: 0 if no value follows itself."""
    longest = np.zeros(block.shape[1], dtype=np.int64)
    run = longest.copy()
    for same in block[1:] == block[:-1]:
        run = np.where(same, run + 1, 0)
        longest = np.maximum(longest, run)
    return longest
