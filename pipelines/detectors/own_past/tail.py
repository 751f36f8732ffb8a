"""How surprising a statistic is, judged by its own past: the tail of a histogram, as -log10 of a probability.

The past is a window of whole counts, a quarter of an octave a bin, so nothing depends on the order of a sum. Inside the
histogram the probability is a rank (conformal: no distribution is assumed). Beyond its upper 3 % the tail is taken to
fall by a power law with the mean excess seen there (Hill, Annals of Statistics 3, 1975), so that two values never
seen before still differ. A tag whose values spike often thereby has to spike higher, and one scale serves all tags.

Blind to how rows depend on each other: a statistic that moves slowly fills its tail in one episode.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from pipelines.features.packed import Counts

BINS_AN_OCTAVE: Final = 4
OCTAVE_MIN: Final = -96
"""Statistics below 2**-96 are taken for 0."""
OCTAVE_MAX: Final = 96
BINS: Final = BINS_AN_OCTAVE * (OCTAVE_MAX - OCTAVE_MIN)

TAIL_SHARE: Final = 0.03
"""Share of the past that the tail is fitted to. From 0.02 to 0.05 results do not differ."""
PAST_ROWS_MIN: Final = 30
"""With fewer rows nothing is surprising."""
EXCESS_PRIOR: Final = (2, 1)
"""Rows, and bins of excess in all, that the tail is believed to hold before any was seen."""
EXCESS_MIN: Final = 0.2
"""Bins; the steepest tail that is believed."""
SURPRISE_MAX: Final = 6.0
"""One in a million: what is rarer cannot be known from a few thousand rows."""

_LOG10_2: Final = 0.30102999566398120
_LOG10_E: Final = 0.43429448190325182
_LOG_TERMS: Final = 18
"""Terms of the series for a mantissa in [0.5, 1): the rest is below 2**-57."""


def log10(x: float) -> float:
    """Return the decimal logarithm of a positive number, of + and * alone: the same bits on every machine.

    >>> log10(1.0), round(log10(1000.0), 12)
    (0.0, 3.0)
    """
    mantissa, exponent = math.frexp(x)
    t = (mantissa - 1.0) / (mantissa + 1.0)
    square, power, total = t * t, t, 0.0
    for k in range(_LOG_TERMS):
        total += power / (2 * k + 1)
        power *= square
    if mantissa == 0.5:
        return (exponent - 1) * _LOG10_2
    return exponent * _LOG10_2 + 2.0 * total * _LOG10_E


def bin_of(statistic: float) -> int:
    """Return the bin of a statistic; everything that is not positive is in bin 0.

    >>> bin_of(0.0), bin_of(1.0), bin_of(1.25), bin_of(2.0), bin_of(float("inf"))
    (0, 388, 389, 392, 767)
    """
    if not statistic > 0.0:
        return 0
    if not statistic < 2.0**OCTAVE_MAX:
        return BINS - 1
    mantissa, exponent = math.frexp(statistic)
    octave = exponent - OCTAVE_MIN
    return max(0, BINS_AN_OCTAVE * octave + int((2.0 * mantissa - 1.0) * BINS_AN_OCTAVE))


class Tail:
    """The past of one statistic."""

    def __init__(self, rows: int) -> None:
        """Begin with no past.

        Args:
            rows: Length of the past that counts; what is older is forgotten.
        """
        self._ring = np.zeros(rows, dtype=np.int16)
        self._seen = 0
        self._falling: Counts = np.zeros(BINS, dtype=np.int64)
        """Counts, the highest bin first: their running sum is the tail."""

    def surprise(self, statistic: float) -> float:
        """Return how surprising a value is, 0..6, and make it part of the past. NaN is 0, and leaves no trace."""
        if statistic != statistic:
            return 0.0
        place = BINS - 1 - bin_of(statistic)
        known = min(self._seen, len(self._ring))
        surprise = self._judge(place, known) if known >= PAST_ROWS_MIN else 0.0
        at = self._seen % len(self._ring)
        if known == len(self._ring):
            self._falling[self._ring[at]] -= 1
        self._ring[at] = place
        self._falling[place] += 1
        self._seen += 1
        return surprise

    def _judge(self, place: int, known: int) -> float:
        beyond = np.cumsum(self._falling)
        edge = int(np.searchsorted(beyond, int(TAIL_SHARE * known), side="right"))
        if place >= edge:
            return log10((known + 1) / (int(beyond[place]) + 1))
        tail = int(beyond[edge - 1])
        rows, bins = EXCESS_PRIOR
        # The running sum over the tail's bins counts every row once for each bin that it lies above the edge.
        excess = max((int(np.sum(beyond[:edge])) + bins) / (tail + rows), EXCESS_MIN)
        return min(log10((known + 1) / (tail + 1)) + (edge - place) / excess * _LOG10_E, SURPRISE_MAX)

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {"ring": self._ring[: self._seen], "seen": self._seen}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        ring, self._seen = state["ring"], state["seen"]
        self._ring[: len(ring)] = ring
        self._falling = np.bincount(ring, minlength=BINS).astype(np.int64)
