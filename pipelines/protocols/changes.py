"""Change points after SKAB's leaderboard: the scheme of NAB with a window of 60 s to the right of each change.

The first claim inside a window scores by how early it is, on a ramp from 1 at the change to the weight of a false
alarm at the window's end; later claims inside count nothing, a claim outside costs the weight of a false alarm, an
empty window that of a miss. The sum is scaled so that claiming nothing is 0 and claiming each change at once is 100.

Source: SKAB v0.9, core/metrics.py, `evaluating_change_point` with `anomaly_window_destination="righter"`: profiles and
the ramp of 1,000 steps of -tanh over (-π/2, π/2) are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from pipelines.features.packed import Floats, Mask

WINDOW_S: Final = 60.0
RAMP_STEPS: Final = 1000


class Weights(NamedTuple):
    """What a claim is worth."""

    hit: float
    false: float
    missed: float


PROFILES: Final[Mapping[str, Weights]] = {
    "standard": Weights(1.0, -0.11, -1.0),
    "low_fp": Weights(1.0, -0.22, -1.0),
    "low_fn": Weights(1.0, -0.11, -2.0),
}
_TANH: Final = -np.tanh(np.linspace(-np.pi / 2, np.pi / 2, RAMP_STEPS)) / np.tanh(np.pi / 2)
"""1 at the beginning of a window, -1 at its end."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Claims against change points, of one file or of several."""

    places: tuple[float, ...] = ()
    """Of the first claim in each window that has one: 0 at the window's beginning, 1 at its end."""
    delays_s: tuple[float, ...] = ()
    """Of the same claims, from the beginning of the window."""
    missed: int = 0
    false: int = 0
    """Claims outside of every window."""

    @property
    def windows(self) -> int:
        """Change points."""
        return len(self.places) + self.missed

    def score(self, profile: str) -> float:
        """Return the score of a profile: at most 100, below 0 for what is worse than silence."""
        weights = PROFILES[profile]
        got = weights.false * self.false + weights.missed * self.missed + sum(_ramp(p, weights) for p in self.places)
        nothing, perfect = weights.missed * self.windows, weights.hit * self.windows
        return 100 * (got - nothing) / (perfect - nothing) if self.windows else 0.0

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.places + other.places,
            self.delays_s + other.delays_s,
            self.missed + other.missed,
            self.false + other.false,
        )


def changes(label: Mask, claim: Mask, seconds: Floats) -> Changes:
    """Compare change points with claims of one file.

    Args:
        label: Rows at which a change begins or ends, shape `(n,)`.
        claim: Rows at which one is claimed, shape `(n,)`.
        seconds: Times of the rows, shape `(n,)`, ascending.
    """
    begins, claimed = seconds[label], seconds[claim]
    windows = [(float(begin), float(begin) + WINDOW_S) for begin in begins]
    for k in range(1, len(windows)):
        # Windows that overlap: the earlier one keeps what they share.
        windows[k] = (max(windows[k][0], windows[k - 1][1]), windows[k][1])
    places, delays_s, inside = list[float](), list[float](), np.zeros(len(claimed), dtype=np.bool_)
    for begin, end in windows:
        mine = (begin <= claimed) & (claimed <= end)
        inside |= mine
        if mine.any():
            delay_s = float(claimed[mine][0]) - begin
            delays_s.append(delay_s)
            places.append(delay_s / max(end - begin, 1e-9))
    return Changes(
        tuple(places), tuple(delays_s), len(windows) - len(places), int(np.count_nonzero(claimed)) - int(inside.sum())
    )


def _ramp(place: float, weights: Weights) -> float:
    half = (weights.hit - weights.false) / 2
    return float(half * _TANH[min(int(place * RAMP_STEPS), RAMP_STEPS - 1)] + half + weights.false)
