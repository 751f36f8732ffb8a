"""What the marking of every protocol shares: recordings with their predictions in, lines of figures out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipelines.protocols.points import Confusion
from pipelines.protocols.predicting import Predictions
from pipelines.protocols.segments import Segments
from pipelines.protocols.series import Series

Figures = dict[str, float | int | None]
"""By name with the unit at its end. None: nothing to measure."""
ALL: Final = "all"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A recording with its predictions."""

    series: Series
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: who, of what part, with what figures."""

    who: str
    part: str
    figures: Figures


def of_points(points: Confusion) -> Figures:
    """Return the figures of rows."""
    return {
        "f1": points.f1,
        "far_pct": points.far_pct,
        "mar_pct": points.mar_pct,
        "mcc": points.mcc,
        "precision": points.precision,
        "rows": points.rows,
        "tp": points.tp,
        "fp": points.fp,
        "fn": points.fn,
        "tn": points.tn,
    }


def of_segments(found: Segments) -> Figures:
    """Return the figures of alarms."""
    return {
        "segments": found.number,
        "segment_recall": found.recall,
        "delay_median_s": found.delay_median_s,
        "delay_mean_s": found.delay_mean_s,
        "alarm_before_onset": found.before_onset,
        "false_episodes": found.false_episodes,
        "false_episodes_per_h": found.false_per_h,
        "normal_h": found.normal_h,
    }
