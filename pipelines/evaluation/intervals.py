"""Intervals: how far a figure from so few cases can be from the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054
"""The normal distribution's quantile for two-sided 95 %."""
RESAMPLES_N = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def share(hits_n: int, of_n: int) -> Estimate | None:
    """Return a share with Wilson's interval (J. Am. Stat. Assoc. 22, 1927); None of nothing.

    Nothing is rounded: one of 25,000 is more than none of them, and a goal is compared with what was counted.

    >>> found = share(70, 100)
    >>> found.value, round(found.low, 4), round(found.high, 4)
    (0.7, 0.6042, 0.7811)
    >>> found = share(0, 3000)
    >>> found.value, found.low, round(found.high, 4)
    (0.0, 0.0, 0.0013)
    """
    if of_n == 0:
        return None
    p, z2 = hits_n / of_n, Z_95**2
    middle = p + z2 / (2 * of_n)
    reach = Z_95 * math.sqrt(p * (1 - p) / of_n + z2 / (4 * of_n**2))
    low, high = ((middle + sign * reach) / (1 + z2 / of_n) for sign in (-1, 1))
    # The ends of nothing and of everything are exact; what floats make of them is 1e-18 beside.
    return Estimate(p, max(low, 0.0) if hits_n else 0.0, min(high, 1.0) if hits_n < of_n else 1.0)


def quantile(values: Sequence[float], q: float) -> Estimate | None:
    """Return the value that a share `q` stays below, its interval by order statistics; None of nothing.

    Free of any distribution: the interval's ends are values that were measured. With few values it reaches from the
    smallest to the largest, and covers less than 95 %.

    >>> quantile([float(n) for n in range(1, 101)], 0.5)
    Estimate(value=50.0, low=41.0, high=60.0)
    """
    if not values:
        return None
    ordered, n = sorted(values), len(values)
    reach = Z_95 * math.sqrt(n * q * (1 - q))

    def at(rank: float) -> float:
        return ordered[min(max(math.ceil(rank), 1), n) - 1]

    return Estimate(at(n * q), at(n * q - reach), at(n * q + reach))


def ratio_of_sums(over: Sequence[float], under: Sequence[float], *, seed: int = 1) -> Estimate | None:
    """Return Σ over / Σ under with the bootstrap's percentile interval, pairs drawn together; None if Σ under is 0.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    a, b = np.asarray(over, dtype=float), np.asarray(under, dtype=float)
    if not b.sum() > 0:
        return None
    drawn = np.random.default_rng(seed).integers(len(a), size=(RESAMPLES_N, len(a)))
    sums = b[drawn].sum(axis=1)
    ratios = a[drawn].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Estimate(float(a.sum() / b.sum()), float(low), float(high))
