"""SKAB's figures: files pooled into one table, alarms, change points; and beside them those who do not look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from pipelines.features.packed import Mask
from pipelines.protocols.changes import PROFILES, Changes, changes
from pipelines.protocols.layout import ANOMALY_FREE, SKAB_FIT_ROWS
from pipelines.protocols.marks import ALL, Figures, Judged, Line, of_points, of_segments
from pipelines.protocols.points import Confusion
from pipelines.protocols.segments import Segments, segments

Alarms = Callable[[Judged], tuple[Mask, Mask]]
"""Alarms and claims of changes for a recording, both of shape `(rows,)`."""
CLOCK: Final = range(570, 970)
"""Rows in which nearly every file of SKAB is abnormal: what a detector reaches that only counts rows."""


def mark_skab(judged: Sequence[Judged], who: str) -> list[Line]:
    """Return SKAB's figures: all files together, each group of them, and the run without a fault."""
    marked = [each for each in judged if each.series.anomaly is not None and not _is_free(each)]
    lines = [Line(who, part, _skab(files, _said)) for part, files in _parts(marked).items()]
    free = [each for each in judged if _is_free(each)]
    if free:
        lines.append(Line(who, ANOMALY_FREE, _free(free)))
    if marked:
        lines += [Line(name, ALL, _skab(marked, alarms)) for name, alarms in BLIND.items()]
    return lines


def _is_free(judged: Judged) -> bool:
    return ANOMALY_FREE in judged.series.key


def _parts(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """Return all files, and those of each group if there are several."""
    groups: dict[str, list[Judged]] = {}
    for each in judged:
        groups.setdefault(each.series.key.split("/")[1], []).append(each)
    return {**({ALL: list(judged)} if judged else {}), **(groups if len(groups) > 1 else {})}


def _said(judged: Judged) -> tuple[Mask, Mask]:
    return judged.predictions.pred, judged.predictions.cp


def _blind(on: Callable[[int], bool]) -> Alarms:
    def alarms(judged: Judged) -> tuple[Mask, Mask]:
        pred = np.array([on(row) for row in range(len(judged.series))], dtype=np.bool_)
        # The scored rows are all that it knows of: an alarm that is on there has begun there.
        changed = np.concatenate((pred[:1], pred[1:] != pred[:-1]))
        changed[SKAB_FIT_ROWS : SKAB_FIT_ROWS + 1] = pred[SKAB_FIT_ROWS : SKAB_FIT_ROWS + 1]
        return pred, changed

    return alarms


BLIND: Final[Mapping[str, Alarms]] = {
    "always alarm": _blind(lambda row: True),
    "never": _blind(lambda row: False),
    "the clock": _blind(lambda row: row in CLOCK),
}
"""Who does not look at the process. What is not clearly better than these three says nothing."""


def _skab(judged: Sequence[Judged], alarms: Alarms) -> Figures:
    labels, alarmed = list[Mask](), list[Mask]()
    found, claimed, scored = Segments(), Changes(), slice(SKAB_FIT_ROWS, None)
    changes_labelled = False
    for each in judged:
        pred, claim = alarms(each)
        seconds, label, change = each.series.seconds[scored], each.series.anomaly, each.series.change
        assert label is not None, "only labelled files are marked"
        labels.append(label[scored])
        alarmed.append(pred[scored])
        found += segments(label[scored], pred[scored], seconds)
        if change is not None:
            changes_labelled = True
            claimed += changes(change[scored], claim[scored], seconds)
    points = Confusion.of(np.concatenate(labels), np.concatenate(alarmed))
    return {**of_points(points), **of_segments(found), **(_changes(claimed) if changes_labelled else {})}


def _changes(claimed: Changes) -> Figures:
    return {
        **{f"cp_{profile}": claimed.score(profile) for profile in PROFILES},
        "cp_windows": claimed.windows,
        "cp_missed": claimed.missed,
        "cp_false": claimed.false,
        "cp_delay_mean_s": float(np.mean(claimed.delays_s)) if claimed.delays_s else None,
    }


def _free(judged: Sequence[Judged]) -> Figures:
    found, rows, alarmed = Segments(), 0, 0
    for each in judged:
        pred = each.predictions.pred[SKAB_FIT_ROWS:]
        found += segments(np.zeros(len(pred), dtype=np.bool_), pred, each.series.seconds[SKAB_FIT_ROWS:])
        rows, alarmed = rows + len(pred), alarmed + int(np.count_nonzero(pred))
    return {
        "far_pct": 100 * alarmed / max(rows, 1),
        "rows": rows,
        "false_episodes": found.false_episodes,
        "false_episodes_per_h": found.false_per_h,
        "normal_h": found.normal_h,
    }
