"""Alarm by alarm: labelled segments found, how late, and alarms that touch no labelled row. What people at a line feel.

A segment is a run of labelled rows, an episode a run of alarmed rows. An alarm that was on already where a segment
begins finds it with a delay of 0, but it is counted apart: it may have been on for another reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.features.packed import Floats, Mask


@dataclass(frozen=True, slots=True)
class Segments:
    """Of one file or of several."""

    delays_s: tuple[float, ...] = ()
    """Of each segment that was found: from its first row to its first alarmed row."""
    missed: int = 0
    """Segments without an alarmed row."""
    before_onset: int = 0
    """Segments found by an alarm that was on in the row before."""
    false_episodes: int = 0
    """Episodes that touch no labelled row."""
    normal_h: float = 0.0
    """Length of the normal rows: their number times the median step of their file."""

    @property
    def number(self) -> int:
        """Labelled segments."""
        return len(self.delays_s) + self.missed

    @property
    def recall(self) -> float:
        """Part of the segments that was found."""
        return len(self.delays_s) / max(self.number, 1)

    @property
    def delay_median_s(self) -> float | None:
        """None: no segment was found."""
        return float(np.median(self.delays_s)) if self.delays_s else None

    @property
    def delay_mean_s(self) -> float | None:
        """None: no segment was found."""
        return float(np.mean(self.delays_s)) if self.delays_s else None

    @property
    def false_per_h(self) -> float:
        """False episodes an hour of normal rows."""
        return self.false_episodes / max(self.normal_h, 1e-9)

    def __add__(self, other: Segments) -> Segments:
        return Segments(
            self.delays_s + other.delays_s,
            self.missed + other.missed,
            self.before_onset + other.before_onset,
            self.false_episodes + other.false_episodes,
            self.normal_h + other.normal_h,
        )


def runs(mask: Mask) -> list[tuple[int, int]]:
    """Return (first, last + 1) of each run of true rows, shape `(n,)`.

    >>> runs(np.array([True, False, True, True]))
    [(0, 1), (2, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def segments(label: Mask, alarm: Mask, seconds: Floats) -> Segments:
    """Compare labels with alarms of one file.

    Args:
        label: Shape `(n,)`.
        alarm: Shape `(n,)`.
        seconds: Times of the rows, shape `(n,)`, ascending.
    """
    delays_s, missed, before_onset = list[float](), 0, 0
    for first, end in runs(label):
        alarmed = np.flatnonzero(alarm[first:end])
        if not len(alarmed):
            missed += 1
            continue
        before_onset += bool(alarmed[0] == 0 and first > 0 and alarm[first - 1])
        delays_s.append(float(seconds[first + alarmed[0]] - seconds[first]))
    false = sum(not label[first:end].any() for first, end in runs(alarm))
    step_s = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    normal_h = float(np.count_nonzero(~label)) * step_s / 3600
    return Segments(tuple(delays_s), missed, before_onset, false, normal_h)
