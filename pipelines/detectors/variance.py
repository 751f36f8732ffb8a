"""Variance: a tag trembles more than it does in health, or less.

Judged is the fourth root of the mean square of its changes from row to row: nearly normally distributed, and without a
logarithm the same bits everywhere. Changes, not deviations: a tag that walks is not restless. The normal drifts with
it, as in level.py. Blind to slow oscillation, and to tags that are rounded as coarsely as they tremble; a tag that
stands quite still is the business of `stuck`.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from pipelines.detectors.following import follow
from pipelines.detectors.latch import Latch
from pipelines.detectors.port import Context, Family, Signal
from pipelines.detectors.student import limits, shared
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask, pack, unpack
from pipelines.features.row import Row
from schemas.anomalies import Severity

SQUARE_SHARE: Final = 0.05
"""Weight of a row in the mean square."""
SURPRISE_MAX: Final = 9.0
"""One change counts at most as so many mean squares: a step is not restlessness."""
MEAN_SHARE: Final = 0.5
MEMORY_ROWS: Final = 150.0
DOF_SHARE: Final = 0.5
CLEAR: Final = 0.6
"""Part of the limit within which the tag is back."""
LEARNS: Final = 0.7
"""Part of the limit up to which the level follows."""
ROWS_PER_VALUE_MAX: Final = 20
"""A tag of fewer different values is not judged."""
FIRST_DIVISOR: Final = 13
"""The mean square begins as the plain mean over the first thirteenth of the warm-up."""


class Variance:
    """Watches process tags, derived ones too, while the cell executes."""

    family: ClassVar[Family] = "process"
    severity: ClassVar[Severity] = "medium"
    learns: ClassVar[bool] = True

    def __init__(
        self,
        columns: Columns,
        *,
        budget: float = 8e-5,
        open_rows: float = 5,
        clear_rows: float = 20,
        freeze_rows_max: float = 500,
    ) -> None:
        """Begin with nothing learnt.

        Args:
            columns: The group.
            budget: Chance, shared among the group's tags, of a deviation beyond the limit in health.
            open_rows: Rows in a row beyond before a condition begins.
            clear_rows: Rows in a row within before it ends.
            freeze_rows_max: A condition that lasts longer has become the normal.
        """
        n = len(columns)
        self._columns, self._freeze_rows_max = columns, int(freeze_rows_max)
        self._tail = shared(budget, int(columns.watched.sum()))
        self._latch = Latch(int(open_rows), int(clear_rows), n)
        self._last, self._square = np.full(n, np.nan), np.zeros(n)
        self._mean, self._level, self._limit = np.zeros(n), np.zeros(n), np.full(n, np.inf)
        self._age = np.zeros(n, dtype=np.int64)

    @property
    def active(self) -> Mask:
        """Tags with an open condition, shape `(n,)`."""
        return self._latch.active

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Learn how these tags tremble; their conditions are forgotten."""
        self.reset(slots)
        restlessness, self._square[slots] = _restlessness(block)
        normal = follow(restlessness, MEAN_SHARE, MEMORY_ROWS)
        self._last[slots], self._mean[slots], self._level[slots] = block[-1], normal.mean, normal.level
        limit = normal.spread * limits(self._tail, normal.crossings, DOF_SHARE)
        self._limit[slots] = np.where((normal.spread > 0) & ~_rounded(block), limit, np.inf)

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row."""
        if not context.executing:
            self._latch.interrupt()
            self._last[:] = np.nan
            return []
        judged = context.judged(self._columns.watched, row.values)
        begins, ends = self.judge(row.end_at, row.values, judged)
        return [self._begin(slot) for slot in begins] + [Signal(slot, begins=False) for slot in ends]

    def judge(self, end_at: int, values: Floats, judged: Mask) -> tuple[list[int], list[int]]:
        """Take one row of those tags that can be judged; return slots whose condition begins, and ends."""
        change = values - self._last
        np.copyto(self._last, values, where=judged)
        judged = judged & (change == change) & (self._limit < np.inf)
        np.copyto(self._square, _take(self._square, change * change), where=judged)
        root = np.sqrt(np.sqrt(self._square))
        np.copyto(self._mean, self._mean + MEAN_SHARE * (root - self._mean), where=judged)
        away = np.abs(self._mean - self._level)
        active = self._latch.active.copy()
        begins, ends = self._latch.step(end_at, away > np.where(active, CLEAR, 1.0) * self._limit, judged)
        active = self._latch.active
        self._age[judged & active] += 1
        self._age[~active] = 0
        aged = np.flatnonzero(self._age > self._freeze_rows_max)
        if len(aged):
            self._latch.reset(aged)
            self._level[aged], self._age[aged] = self._mean[aged], 0
            ends = sorted({*ends, *aged.tolist()})
        learns = judged & ~self._latch.active & (away <= LEARNS * self._limit)
        np.copyto(self._level, self._level + (root - self._level) / MEMORY_ROWS, where=learns)
        return begins, ends

    def _begin(self, slot: int) -> Signal:
        tag, root, usual = self._columns.tags[slot], float(self._mean[slot]), float(self._level[slot])
        now, before = root * root, usual * usual
        return Signal(
            slot,
            begins=True,
            onset_at=self._latch.onset_at(slot),
            direction="up" if now > before else "down",
            detail=f"{tag.name}: changes by {now:.6g} {tag.unit} from row to row, before by {before:.6g} {tag.unit}",
        )

    def reset(self, slots: Counts) -> None:
        """Forget counts and open conditions of these tags; how they tremble now is their normal."""
        self._latch.reset(slots)
        self._age[slots] = 0
        self._last[slots] = np.nan
        self._level[slots] = self._mean[slots]

    def snapshot(self) -> bytes:
        """Return the whole memory."""
        return pack({"latch": self._latch.state(), **{name: getattr(self, f"_{name}") for name in _ARRAYS}})

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        state = unpack(data)
        self._latch.load(state["latch"])
        for name in _ARRAYS:
            setattr(self, f"_{name}", state[name])


_ARRAYS = ("last", "square", "mean", "level", "limit", "age")


def _restlessness(block: Floats) -> tuple[Floats, Floats]:
    """Return what is judged, shape `(rows - 1, k)`, and the mean square at the end."""
    squares = np.diff(block, axis=0) ** 2
    first = max(1, len(squares) // FIRST_DIVISOR)
    square = np.cumsum(squares[:first], axis=0)[-1] / first
    roots = np.empty_like(squares)
    for k, latest in enumerate(squares):
        square = _take(square, latest)
        roots[k] = np.sqrt(np.sqrt(square))
    return roots, square


def _rounded(block: Floats) -> Mask:
    """Tell which tags know few values: then their trembling is that of the rounding, shape `(k,)`."""
    ordered = np.sort(block, axis=0)
    different = 1 + np.count_nonzero(ordered[1:] != ordered[:-1], axis=0)
    rounded: Mask = different * ROWS_PER_VALUE_MAX < len(block)
    return rounded


def _take(square: Floats, latest: Floats) -> Floats:
    """Return the mean square after one more."""
    taken: Floats = square + SQUARE_SHARE * (np.minimum(latest, SURPRISE_MAX * square) - square)
    return taken
