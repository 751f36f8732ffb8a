"""The figures of the Tennessee Eastman faults: missed rows and delay by fault, false alarms without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipelines.features.packed import Mask
from pipelines.protocols.faults import STEP_S, Fault, Faults
from pipelines.protocols.layout import TEP_FIT, TEP_TEST
from pipelines.protocols.marks import ALL, Figures, Judged, Line, of_segments
from pipelines.protocols.segments import Segments, segments


def mark_tep(judged: Sequence[Judged], who: str) -> list[Line]:
    """Return the figures of the Tennessee Eastman faults, in all and one by one."""
    tests = [each for each in judged if each.series.key.endswith(TEP_TEST)]
    if not tests:
        return []
    faults, episodes = _tep(tests, lambda each: each.predictions.pred)
    lines = [Line(who, ALL, {**_faults(faults), **episodes})]
    lines += [Line(who, fault.name, _fault(fault)) for fault in faults.faults]
    for name, value in (("always alarm", True), ("never", False)):
        blind, episodes = _tep(tests, lambda each, value=value: np.full(len(each.series), value))  # type: ignore[misc]
        lines.append(Line(name, ALL, {**_faults(blind), **episodes}))
    return lines


def _tep(judged: Sequence[Judged], alarms: Callable[[Judged], Mask]) -> tuple[Faults, Figures]:
    faults, rows, alarmed, found = list[Fault](), 0, 0, Segments()
    for each in judged:
        pred, name = alarms(each), each.series.key.split("/")[1].removesuffix(TEP_TEST)
        if name == TEP_FIT:
            rows, alarmed = rows + len(pred), alarmed + int(np.count_nonzero(pred))
        else:
            faults.append(Fault.of(name, pred))
        found += segments(each.series.label, pred, each.series.seconds)
    return Faults(tuple(faults), rows, alarmed), of_segments(found)


def _faults(faults: Faults) -> Figures:
    delay = faults.delay_median_rows
    return {
        "far_pct": faults.far_pct,
        "missed_pct": _pct(faults.missed),
        "missed_all_pct": _pct(faults.missed_all),
        "missed_3_9_15_pct": _pct(faults.missed_hard),
        "faults": len(faults.faults),
        "detected": faults.detected,
        "delay_median_rows": delay,
        "delay_median_h": None if delay is None else delay * STEP_S / 3600,
    }


def _fault(fault: Fault) -> Figures:
    return {"missed_pct": 100 * fault.missed, "delay_rows": fault.delay_rows, "false_before_rows": fault.false_before}


def _pct(part: float | None) -> float | None:
    return None if part is None else 100 * part
