"""A mean that follows a tag quickly, a level that follows it slowly, and what their difference is in health.

The deviation of the one from the other is judged where the tag drifts: what it did over the last minutes is its normal,
not what it did when it was learnt. The warm-up is gone through as rows are later, oldest first, each judged by what
came before it: so the spread is that of rows that were not learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.features.packed import Counts, Floats

FIRST_DIVISOR = 13
"""The level begins as the median of the first thirteenth of the warm-up: 30 of 400 rows."""
SKIPPED_PART = 0.15
"""Part of the warm-up after which the level has found itself."""


@dataclass(slots=True, eq=False)
class Following:
    """Where a warm-up ends. Arrays have shape `(k,)`."""

    mean: Floats
    """Exponential mean of the last rows."""
    level: Floats
    """What the mean is expected to be."""
    spread: Floats
    """Root mean square of `mean - level`; 0 for a tag that did not move."""
    crossings: Counts
    """How often `mean - level` changed its sign: what the warm-up holds of independent values."""


def follow(block: Floats, share: float, memory_rows: float) -> Following:
    """Go through a warm-up.

    Args:
        block: Values, oldest first, shape `(rows, k)`, no NaN.
        share: Weight of a row in the mean, in (0, 1].
        memory_rows: Time constant of the level. Until so many rows have come, it is their plain mean.
    """
    rows = len(block)
    first = max(1, rows // FIRST_DIVISOR)
    level = np.sort(block[:first], axis=0)[first // 2].copy()
    mean = level.copy()
    squares, sign = np.zeros_like(mean), np.zeros_like(mean)
    crossings = np.zeros(len(mean), dtype=np.int64)
    skipped = int(SKIPPED_PART * rows)
    for k in range(rows):
        mean += share * (block[k] - mean)
        deviation = mean - level
        if k >= skipped:
            squares += deviation * deviation
            crossings += np.sign(deviation) * sign < 0
            sign = np.sign(deviation)
        if k >= first:
            level += (block[k] - level) / min(k + 1.0, memory_rows)
    return Following(mean, level, np.sqrt(squares / max(1, rows - skipped)), crossings)
