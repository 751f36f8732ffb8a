"""How far the last rows are from anything like them: distance of a lag vector to its nearest neighbours in the past.

A sequence model without a model: what came before, at the same phase of a rhythm or not, is what is normal. A pattern
that has come often enough is near itself, so it is not told again. After Burnaev and Ishimtsev, Conformalized density-
and distance-based anomaly detection in time-series data, arXiv:1608.04585, but with Euclidean distance, which needs no
matrix.

Blind to a pattern that came `NEIGHBOURS` times before, however wrong it is, and to a value that has stopped moving.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pipelines.features.packed import Floats

NEIGHBOURS: Final = 3
"""Mean distance of so many. One alone trusts a single old anomaly; five forget a daily pattern that came four times."""
CANDIDATES_MIN: Final = 10
GAP_ROWS_MIN: Final = 12
"""The last rows are no candidates: a slow value is always near what it just was."""


class Embedding:
    """The shape of a lag vector: `lags` values, `step` rows apart, the newest first."""

    def __init__(self, lags: int, step: int) -> None:
        self._offsets = tuple(j * step for j in range(lags))
        self.span = (lags - 1) * step
        """Rows before the newest one that a vector needs."""
        self._gap = max(lags * step, GAP_ROWS_MIN)

    def distance(self, past: Floats, history: int) -> float:
        """Return the mean distance from the newest vector to its nearest neighbours.

        Sums run over the lags in a fixed order, element by element: no BLAS, the same bits on every machine.

        Args:
            past: Values, oldest first, the newest last; at least `history + span + 1` of them where so many came.
            history: How many rows back a neighbour may end.

        Returns:
            The distance in the unit of the values; NaN while there are fewer than 10 candidates.
        """
        now = len(past) - 1
        first, last = max(self.span, now - history), now - self._gap
        if last - first + 1 < CANDIDATES_MIN:
            return math.nan
        squares = np.zeros(last - first + 1)
        apart = np.empty_like(squares)
        for offset in self._offsets:
            np.subtract(past[first - offset : last - offset + 1], past[now - offset], out=apart)
            np.multiply(apart, apart, out=apart)
            np.add(squares, apart, out=squares)
        return _mean_of_nearest(squares)


def _mean_of_nearest(squares: Floats) -> float:
    """Take the smallest out one by one: quicker than to sort, and equal ones are equal."""
    total = 0.0
    for _ in range(NEIGHBOURS):
        nearest = int(np.argmin(squares))
        total += math.sqrt(float(squares[nearest]))
        squares[nearest] = np.inf
    return total / NEIGHBOURS
