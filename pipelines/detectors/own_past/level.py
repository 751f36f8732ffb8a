"""How far the mean of the last rows is from a slow median: a level that has moved, seen through noise and spikes.

The median follows by steps of fixed size up or down, so a spike moves it by no more than an ordinary row. It forgets a
lasting new level after some warm-ups. Blind to a change whose mean is the same.
"""

from __future__ import annotations

from typing import Any, Final

MEAN_ROWS: Final = 64.0
"""Memory of the fast mean. From 16 to 128 rows results do not differ."""
STEP_OF_SPREAD: Final = 2.0
"""Step of the median, in mean deviations, times its rate."""
SETTLING_ROWS: Final = 20
"""Rows at first in which the median steps by the deviation itself, as no spread is known yet."""


class Level:
    """Fast mean and slow median of one tag."""

    def __init__(self, median_rows: int) -> None:
        """Begin with no level.

        Args:
            median_rows: Memory of the slow median.
        """
        self._median_rows = float(median_rows)
        self._rows = 0
        self._mean = self._median = self._spread = 0.0

    def deviation(self, value: float) -> float:
        """Return |mean after this row - median before it|, in the unit of the value, and learn the row."""
        if self._rows == 0:
            self._mean = self._median = value
        share = 1.0 / (self._rows + 1)
        self._mean += max(1.0 / MEAN_ROWS, share) * (value - self._mean)
        deviation = abs(self._mean - self._median)
        self._follow(value, max(1.0 / self._median_rows, share))
        self._rows += 1
        return deviation

    def _follow(self, value: float, rate: float) -> None:
        off = abs(value - self._median)
        self._spread += rate * (off - self._spread)
        step = STEP_OF_SPREAD * rate * self._spread if self._rows > SETTLING_ROWS else rate * off
        step = min(step, off)
        self._median += step if value > self._median else -step

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {"rows": self._rows, "mean": self._mean, "median": self._median, "spread": self._spread}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self._rows, self._mean = state["rows"], state["mean"]
        self._median, self._spread = state["median"], state["spread"]
