"""The figures of the Numenta Anomaly Benchmark: three scores of all files together, and what the alarms come to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.features.packed import Floats
from pipelines.protocols import windows
from pipelines.protocols.marks import ALL, Figures, Judged, Line, of_segments
from pipelines.protocols.segments import Segments, segments


def mark_nab(judged: Sequence[Judged], who: str) -> list[Line]:
    """Return the three scores of NAB's corpus, and what the alarms themselves come to."""
    marked = [each for each in judged if each.series.windows is not None]
    if not marked:
        return []
    worths = [windows.worth(len(each.series), each.series.windows or ()) for each in marked]
    files = list(zip([each.predictions.score for each in marked], worths, strict=True))
    blind = [(np.zeros(len(each.series)), worth) for each, worth in zip(marked, worths, strict=True)]
    alarms = [(each.predictions.pred.astype(np.float64), worth) for each, worth in zip(marked, worths, strict=True)]
    return [
        Line(who, ALL, {**_nab(files), "files": len(marked), "windows": sum(w.windows for w in worths)}),
        Line(f"{who}, its alarms alone", ALL, {**_nab(alarms), **of_segments(_nab_segments(marked))}),
        Line("one score for all rows", ALL, _nab(blind)),
    ]


def _nab(files: Sequence[tuple[Floats, windows.Worth]]) -> Figures:
    figures: Figures = {}
    for profile in windows.PROFILES:
        best = windows.best(files, profile)
        figures |= {profile: best.score, f"{profile}_threshold": best.threshold}
    return figures


def _nab_segments(judged: Sequence[Judged]) -> Segments:
    """Return alarms against windows, as if a window were a labelled segment."""
    found = Segments()
    for each in judged:
        label, scored = each.series.label, windows.probation_rows(len(each.series))
        found += segments(label[scored:], each.predictions.pred[scored:], each.series.seconds[scored:])
    return found
