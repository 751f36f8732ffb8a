"""Limits for a statistic whose spread was learnt from few independent rows: quantiles of Student's t.

A tag that wanders crosses its own mean seldom: its warm-up holds few independent values, whatever its rows, and its
limit must be wide. The crossings count them without a model.

Closed form for whole degrees of freedom, Abramowitz and Stegun 26.7.3-4, by addition, multiplication, division and
square root alone: the same bits on every machine. Between whole degrees it is interpolated.
"""

from __future__ import annotations

from functools import lru_cache
from math import pi, sqrt
from typing import Final

import numpy as np

from pipelines.features.packed import Counts, Floats

DOF_MAX: Final = 60
"""Beyond it the normal distribution is as good."""
HALVINGS: Final = 60
SHARING_MIN: Final = 8
ARCTAN_TERMS: Final = 60
"""Euler's series for arguments up to 1 halves its terms at least: 2**-60 is below rounding."""


def shared(budget: float, tags: int) -> float:
    """Return each tag's part of a group's chance of a limit passed in health.

    A group of few tags shares as if it had `SHARING_MIN`: else a lone tag would be judged more sharply than in company.
    """
    return budget / max(tags, SHARING_MIN)


def limits(tail: float, crossings: Counts, dof_share: float) -> Floats:
    """Return limits in spreads, shape `(n,)`.

    Args:
        tail: Chance of a normal value beyond the limit, on one side, in (0, 0.5).
        crossings: How often each tag crossed its mean in the warm-up.
        dof_share: Degrees of freedom that a crossing is worth.
    """
    table = _quantiles(tail)
    dof = np.clip(crossings * dof_share, 1.0, float(DOF_MAX))
    below = np.minimum(dof.astype(np.int64), DOF_MAX - 1)
    low, high = table[below - 1], table[below]
    limit: Floats = low + (high - low) * (dof - below)
    return limit


@lru_cache(maxsize=64)
def _quantiles(tail: float) -> Floats:
    return np.array([quantile(tail, dof) for dof in range(1, DOF_MAX + 1)])


def quantile(tail: float, dof: int) -> float:
    """Return the t with `P(T > t) = tail` for `dof` degrees of freedom.

    >>> round(quantile(0.025, 10), 3), round(quantile(0.001, 2), 2)
    (2.228, 22.33)

    Raises:
        ValueError: `tail` is not in (0, 0.5).
    """
    if not 0 < tail < 0.5:
        raise ValueError(f"a tail of {tail} is not between 0 and 0.5")
    low, high = 0.0, 1.0
    while _upper_tail(high, dof) > tail:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _upper_tail(middle, dof) > tail:
            low = middle
        else:
            high = middle
    return high


def _upper_tail(t: float, dof: int) -> float:
    root = sqrt(dof + t * t)
    sine, cosine_squared = t / root, dof / (dof + t * t)
    term, total = 1.0, 0.0
    if dof % 2 == 0:
        for k in range(dof // 2):
            total += term
            term *= cosine_squared * (2 * k + 1) / (2 * k + 2)
        return (1 - sine * total) / 2
    for k in range((dof - 1) // 2):
        total += term
        term *= cosine_squared * (2 * k + 2) / (2 * k + 3)
    inside = _arctan(t / sqrt(dof)) + sine * sqrt(cosine_squared) * total
    return (1 - 2 * inside / pi) / 2


def _arctan(x: float) -> float:
    if x > 1:
        return pi / 2 - _arctan(1 / x)
    square = x * x / (1 + x * x)
    term, total = x / (1 + x * x), 0.0
    for k in range(ARCTAN_TERMS):
        total += term
        term *= square * (2 * k + 2) / (2 * k + 3)
    return total
