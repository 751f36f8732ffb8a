"""The learnt normal of each tag: median and robust spread, from a warm-up.

Median and 1.4826 × median absolute deviation stand up to a warm-up of which almost half is abnormal. Only order
statistics are used: no sum, so no result depends on how a machine adds.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask

MAD_TO_SIGMA: Final = 1.4826
"""For a normal distribution; Rousseeuw and Croux, JASA 88, 1993."""

TAIL_QUANTILE: Final = 0.9
TAIL_TO_SIGMA: Final = 1.6449
"""The 0.9 quantile of |x| for a standard normal distribution: the spread of a tag that mostly stands still."""

FLOOR_OF_RANGE: Final = 1e-5
"""Smallest spread, as a part of the tag's range: less is rounding, not process."""

CONSTANT_OF_RANGE: Final = 1e-3
"""Spread of a tag that did not move at all in the warm-up."""


class Baseline:
    """Normals of one group. Arrays have shape `(n,)`."""

    def __init__(self, columns: Columns) -> None:
        n = len(columns)
        self.centre = np.full(n, np.nan)
        """Median; NaN while not known."""
        self.spread = np.full(n, np.nan)
        """Robust standard deviation, above 0; NaN while not known."""
        self.known: Mask = np.zeros(n, dtype=np.bool_)
        self._width = columns.high - columns.low
        self._deadband = np.array([tag.deadband for tag in columns.tags])

    def learn(self, slots: Counts, block: Floats) -> None:
        """Set the normal of some tags from their warm-up, shape `(rows, k)`, no NaN."""
        ordered = np.sort(block, axis=0)
        centre = _median(ordered)
        deviation = np.sort(np.abs(block - centre), axis=0)
        spread = MAD_TO_SIGMA * _median(deviation)
        tail = deviation[int(TAIL_QUANTILE * (len(block) - 1))] / TAIL_TO_SIGMA
        spread = np.where(spread > 0, spread, tail)
        width = self._width[slots]
        spread = np.where(deviation[-1] > 0, spread, CONSTANT_OF_RANGE * width)
        floor = np.maximum(FLOOR_OF_RANGE * width, np.maximum(self._deadband[slots], np.finfo(np.float64).tiny))
        self.centre[slots], self.spread[slots] = centre, np.maximum(spread, floor)
        self.known[slots] = True

    def forget(self, slots: Counts) -> None:
        """The normal of these tags holds no longer."""
        self.centre[slots] = self.spread[slots] = np.nan
        self.known[slots] = False

    def z(self, values: Floats) -> Floats:
        """Return signed robust deviations; NaN without a value or a normal."""
        z: Floats = (values - self.centre) / self.spread
        return z

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {"centre": self.centre, "spread": self.spread, "known": self.known}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self.centre, self.spread, self.known = state["centre"], state["spread"], state["known"]


def _median(ordered: Floats) -> Floats:
    """Return the medians of sorted columns. An even number of rows gives the middle of the middle two."""
    rows = len(ordered)
    low: Floats = ordered[(rows - 1) // 2]
    median: Floats = low + (ordered[rows // 2] - low) / 2
    return median
