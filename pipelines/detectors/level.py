"""Level: a tag leaves its level, judged at two time constants by a normal that drifts with it.

Slow: the mean of the last rows is away from a level that follows over minutes. Step: a short mean leaves a level that
follows within seconds, and is away from the slow one too. Either opens the condition and holds the level where it was
before, so that a fault is not learnt. Slow ends when the mean is back well within its limit. A step ends when it is
undone, however small it was against the limit: what matters is the return, not the calm after it.

Limits follow what the warm-up holds of independent values (student.py): a tag that wanders by itself is hardly judged,
a tag that trembles around its level sharply. Blind to a drift slower than the level follows.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np

from pipelines.detectors.following import follow
from pipelines.detectors.port import Context, Family, Signal
from pipelines.detectors.student import limits, shared
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask, pack, unpack
from pipelines.features.row import Row
from schemas.anomalies import Severity

SLOW_SHARE: Final = 0.15
SLOW_MEMORY_ROWS: Final = 140.0
SLOW_DOF_SHARE: Final = 0.12
SLOW_LIMIT_MIN: Final = 4.7
"""Spreads below which no limit falls: it keeps tags that only tremble from opening every other hour."""
SLOW_OPEN_ROWS: Final = 3
SLOW_CLEAR: Final = 0.7
"""Part of the limit within which the mean is back."""
SLOW_CLEAR_OF_PEAK: Final = 0.3
"""After a large excursion, part of its peak within which the mean is back."""
SLOW_LEARNS: Final = 0.65
"""Part of the limit up to which the level follows."""

STEP_SHARE: Final = 0.2
STEP_MEMORY_ROWS: Final = 25.0
STEP_DOF_SHARE: Final = 0.14
STEP_LIMIT_MIN: Final = 5.0
STEP_OPEN_ROWS: Final = 3
STEP_SLOW_MIN: Final = 2.5
"""Spreads that the slow deviation must have too: a step that leads back to the level is none."""
STEP_UNDONE: Final = 0.35
"""Part of its peak below which a step is undone."""
STEP_LEARNS: Final = 0.6
STEP_WATCH_SHARE: Final = 0.1
"""Weight of a row in the mean that watches for the return."""


class Level:
    """Watches process tags, derived ones too, while the cell executes. All constants are in rows."""

    family: ClassVar[Family] = "process"
    severity: ClassVar[Severity] = "medium"
    learns: ClassVar[bool] = True

    def __init__(
        self,
        columns: Columns,
        *,
        slow_budget: float = 0.016,
        step_budget: float = 8e-4,
        clear_rows: float = 35,
        freeze_rows_max: float = 500,
    ) -> None:
        """Begin with nothing learnt.

        Args:
            columns: The group.
            slow_budget: Chance, shared among the group's tags, of a slow deviation beyond the limit in health.
            step_budget: The same of a step.
            clear_rows: Rows in a row within before a condition ends.
            freeze_rows_max: A condition that lasts longer has become the normal.
        """
        n = len(columns)
        self._columns, self._clear_rows, self._freeze_rows_max = columns, int(clear_rows), int(freeze_rows_max)
        tags = int(columns.watched.sum())
        self._slow_tail, self._step_tail = shared(slow_budget, tags), shared(step_budget, tags)
        for name in _FLOATS:
            setattr(self, f"_{name}", np.zeros(n))
        for name in _COUNTS:
            setattr(self, f"_{name}", np.zeros(n, dtype=np.int64))
        for name in _MASKS:
            setattr(self, f"_{name}", np.zeros(n, dtype=np.bool_))

    _mean: Floats
    _level: Floats
    _limit: Floats
    _short_mean: Floats
    _short_level: Floats
    _short_limit: Floats
    _slow_min: Floats
    _watch_mean: Floats
    _peak: Floats
    _step_peak: Floats
    _step_sign: Floats
    _beyond: Counts
    _within: Counts
    _age: Counts
    _step_beyond: Counts
    _step_within: Counts
    _step_age: Counts
    _onset_at: Counts
    _known: Mask
    _slow: Mask
    _step: Mask

    @property
    def active(self) -> Mask:
        """Tags with an open condition, shape `(n,)`."""
        active: Mask = self._slow | self._step
        return active

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Learn levels, spreads and limits of some tags; their conditions are forgotten."""
        self.reset(slots)
        slow, short = follow(block, SLOW_SHARE, SLOW_MEMORY_ROWS), follow(block, STEP_SHARE, STEP_MEMORY_ROWS)
        self._mean[slots], self._level[slots] = slow.mean, slow.level
        self._short_mean[slots], self._short_level[slots] = short.mean, short.level
        self._watch_mean[slots] = slow.mean
        slow_limit = limits(self._slow_tail, slow.crossings, SLOW_DOF_SHARE)
        step_limit = limits(self._step_tail, short.crossings, STEP_DOF_SHARE)
        self._limit[slots] = slow.spread * np.maximum(slow_limit, SLOW_LIMIT_MIN)
        self._short_limit[slots] = short.spread * np.maximum(step_limit, STEP_LIMIT_MIN)
        self._slow_min[slots] = STEP_SLOW_MIN * slow.spread
        # A tag that stood still has no spread to judge by: other detectors look at such.
        self._known[slots] = (slow.spread > 0) & (short.spread > 0)

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row."""
        if not context.executing:
            return []
        judged = self._known & context.judged(self._columns.watched, row.values)
        before = self.active
        self.judge(row.end_at, row.values, judged)
        after = self.active
        begins, ends = np.flatnonzero(after & ~before), np.flatnonzero(before & ~after)
        return [self._begin(slot) for slot in begins.tolist()] + [Signal(slot, begins=False) for slot in ends.tolist()]

    def judge(self, end_at: int, values: Floats, judged: Mask) -> None:
        """Take one row of those tags that can be judged; see `active`."""
        x = np.where(judged, values, self._mean)
        deviation = _follow(self._mean, self._level, x, SLOW_SHARE, judged)
        short = _follow(self._short_mean, self._short_level, x, STEP_SHARE, judged)
        np.copyto(self._watch_mean, self._watch_mean + STEP_WATCH_SHARE * (x - self._watch_mean), where=judged)
        away, short_away = np.abs(deviation), np.abs(short)
        quiet = ~(self._beyond > 0) & ~(self._step_beyond != 0) & ~self.active
        np.copyto(self._onset_at, end_at, where=judged & quiet)
        self._judge_step(short, short_away, deviation, away, judged)
        self._judge_slow(away, judged)
        learns = judged & ~self._step & (short_away <= STEP_LEARNS * self._short_limit)
        np.copyto(self._short_level, self._short_level + (x - self._short_level) / STEP_MEMORY_ROWS, where=learns)
        learns = judged & ~self.active & (away <= SLOW_LEARNS * self._limit)
        np.copyto(self._level, self._level + (x - self._level) / SLOW_MEMORY_ROWS, where=learns)

    def _judge_slow(self, away: Floats, judged: Mask) -> None:
        shut = judged & ~self._slow
        np.copyto(self._beyond, np.where(away > self._limit, self._beyond + 1, 0), where=shut)
        begins = shut & (self._beyond >= SLOW_OPEN_ROWS)
        held = judged & self._slow
        np.copyto(self._peak, np.maximum(self._peak, away), where=held)
        back = away < np.maximum(SLOW_CLEAR * self._limit, SLOW_CLEAR_OF_PEAK * self._peak)
        np.copyto(self._within, np.where(back, self._within + 1, 0), where=held)
        self._age[held] += 1
        aged = held & (self._age > self._freeze_rows_max)
        ends = aged | (held & (self._within >= self._clear_rows))
        # Back from far, or for long away: where it is now is its level.
        here = aged | (ends & (SLOW_CLEAR_OF_PEAK * self._peak > SLOW_CLEAR * self._limit))
        np.copyto(self._level, self._mean, where=here)
        np.copyto(self._peak, away, where=begins)
        for counts in (self._beyond, self._within, self._age):
            np.copyto(counts, 0, where=begins | ends)
        np.copyto(self._slow, begins, where=begins | ends)

    def _judge_step(self, short: Floats, short_away: Floats, deviation: Floats, away: Floats, judged: Mask) -> None:
        shut = judged & ~self._step
        sign = np.sign(short)
        one = sign.astype(np.int64)
        run = np.where(self._step_beyond * one >= 0, self._step_beyond + one, 0)
        np.copyto(self._step_beyond, np.where(short_away > self._short_limit, run, 0), where=shut)
        away_too = (away >= self._slow_min) & (deviation * sign > 0)
        begins = shut & (np.abs(self._step_beyond) >= STEP_OPEN_ROWS) & away_too
        held = judged & self._step
        gone = self._step_sign * (self._watch_mean - self._short_level)
        np.copyto(self._step_peak, np.maximum(self._step_peak, gone), where=held)
        back = gone < STEP_UNDONE * self._step_peak
        np.copyto(self._step_within, np.where(back, self._step_within + 1, 0), where=held)
        self._step_age[held] += 1
        aged = held & (self._step_age > self._freeze_rows_max)
        ends = aged | (held & (self._step_within >= self._clear_rows))
        np.copyto(self._short_level, self._watch_mean, where=ends)
        np.copyto(self._level, self._watch_mean, where=aged)
        np.copyto(self._step_sign, sign, where=begins)
        np.copyto(self._step_peak, short_away, where=begins)
        for counts in (self._step_beyond, self._step_within, self._step_age):
            np.copyto(counts, 0, where=begins | ends)
        np.copyto(self._step, begins, where=begins | ends)

    def _begin(self, slot: int) -> Signal:
        tag, level, mean = self._columns.tags[slot], float(self._level[slot]), float(self._mean[slot])
        if self._step[slot] and not self._slow[slot]:
            level, mean = float(self._short_level[slot]), float(self._short_mean[slot])
        return Signal(
            slot,
            begins=True,
            onset_at=int(self._onset_at[slot]),
            direction="up" if mean > level else "down",
            detail=f"{tag.name}: mean of the last rows {mean:.6g} {tag.unit}, level before {level:.6g} {tag.unit}",
        )

    def reset(self, slots: Counts) -> None:
        """Forget counts and open conditions of these tags; where they are now is their level."""
        for name in (*_COUNTS, "slow", "step", "peak", "step_peak", "step_sign"):
            getattr(self, f"_{name}")[slots] = 0
        self._level[slots], self._short_level[slots] = self._mean[slots], self._short_mean[slots]

    def snapshot(self) -> bytes:
        """Return the whole memory."""
        return pack(self._state())

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        for name, array in unpack(data).items():
            setattr(self, f"_{name}", array)

    def _state(self) -> dict[str, Any]:
        return {name: getattr(self, f"_{name}") for name in (*_FLOATS, *_COUNTS, *_MASKS)}


_FLOATS = (
    *("mean", "level", "limit", "short_mean", "short_level", "short_limit"),
    *("slow_min", "watch_mean", "peak", "step_peak", "step_sign"),
)
_COUNTS = ("beyond", "within", "age", "step_beyond", "step_within", "step_age", "onset_at")
_MASKS = ("known", "slow", "step")


def _follow(mean: Floats, level: Floats, x: Floats, share: float, judged: Mask) -> Floats:
    """Let `mean` take a row; return its deviation from `level`."""
    np.copyto(mean, mean + share * (x - mean), where=judged)
    deviation: Floats = mean - level
    return deviation
