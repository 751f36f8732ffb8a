"""Drawings of the report, as SVG of our own: a recording's tags with alarms and labels, and delays at a glance.

Colours are those of the page's style, by class: `label` is what somebody called abnormal, `alarm` what was alarmed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import numpy as np

from pipelines.features.packed import Floats, Mask
from pipelines.protocols.marks import Judged
from pipelines.protocols.segments import runs

NAME_PX, PLOT_PX, RIGHT_PX = 190, 880, 12
STRIP_PX, TAG_PX, GAP_PX, AXIS_PX = 12, 46, 8, 22
TAGS_MAX: Final = 10
"""Tags drawn of one recording: those that raised alarms first."""
POINTS_MAX: Final = 440
"""Places along the time of a tag; each shows the lowest and the highest value of its rows."""
DELAY_ROW_PX = 18
TICKS: Final = 6
STYLE: Final = """
svg { width: 100%; height: auto; max-width: 1090px; } svg .learnt { fill: var(--line); opacity: .45; }
svg .label { fill: var(--other); opacity: .28; } svg .strip-label { fill: var(--other); }
svg .alarm { fill: var(--bar); opacity: .30; } svg .strip-alarm { fill: var(--bar); }
svg .trace { fill: none; stroke: var(--ink); stroke-width: 1; stroke-linejoin: round; }
svg .change { stroke: var(--other); stroke-width: 1.5; } svg .claim { stroke: var(--bar); stroke-width: 1.5; }
svg .small { font-size: 11px; } svg .missed { fill: none; stroke: var(--other); stroke-width: 2; }
details { margin: .3rem 0; } summary { cursor: pointer; } figure { margin: .5rem 0 1.5rem; }
td:nth-child(2), th:nth-child(2), .raised :last-child { text-align: left; }
.key { display: inline-block; width: .9em; height: .9em; vertical-align: -.1em; margin: 0 .25em 0 .9em; }
"""


def recording(judged: Judged, learnt_rows: int) -> str:
    """Return one recording: strips of labels and alarms, the score, and each tag in a plot of its own.

    Args:
        judged: The recording and what was predicted.
        learnt_rows: Rows at its beginning that were for learning: shaded.
    """
    series, predictions = judged.series, judged.predictions
    places, rows = tags_drawn(judged), len(series)
    y = 0
    parts = [_strip(y, "labelled abnormal", series.label, rows, "strip-label")]
    y += STRIP_PX + GAP_PX
    parts.append(_strip(y, "alarm on", predictions.pred, rows, "strip-alarm"))
    y += STRIP_PX + GAP_PX
    if series.change is not None:
        parts.append(_marks(y, "changes: labelled, claimed", {"change": series.change, "claim": predictions.cp}, rows))
        y += STRIP_PX + GAP_PX
    top = y
    traces = [("score", predictions.score, predictions.pred)]
    traces += [(series.columns[k], series.values[:, k], _alarmed(judged, series.columns[k])) for k in places]
    for name, values, alarmed in traces:
        parts.append(_trace(y, name, values, alarmed))
        y += TAG_PX + GAP_PX
    learnt = np.arange(rows) < learnt_rows
    shade = "".join(_spans(top, y - top - GAP_PX, learnt, "learnt"))
    bands = "".join(_spans(top, y - top - GAP_PX, series.label, "label"))
    height = y + AXIS_PX
    about = f"Tags of {series.key} with alarms and labels"
    body = f"{shade}{bands}{''.join(parts)}{_row_axis(y, rows)}"
    return _svg(NAME_PX + PLOT_PX + RIGHT_PX, height, about, body)


def tags_drawn(judged: Judged) -> list[int]:
    """Return the columns that are drawn: those that raised alarms in their order, then the first others."""
    columns = judged.series.columns
    raised = list(dict.fromkeys(columns.index(each.tag) for each in judged.predictions.raised if each.tag in columns))
    quiet = [k for k in range(len(columns)) if k not in raised]
    return [*raised, *quiet][:TAGS_MAX]


def _alarmed(judged: Judged, column: str) -> Mask:
    mask = np.zeros(len(judged.series), dtype=np.bool_)
    for each in judged.predictions.raised:
        if each.tag == column:
            mask[each.from_row : each.until_row] = True
    return mask


def delays(title: str, found: Mapping[str, Sequence[float | None]], unit: str) -> str:
    """Return the delays of all labelled segments, a line a file.

    Args:
        title: What is seen, for those who can't see.
        found: By file, the delay of each of its segments; None: it was missed.
        unit: Of the delays.
    """
    longest = max((delay for each in found.values() for delay in each if delay is not None), default=0.0)
    step = _round_step(longest / TICKS)
    most = step * max(1, math.ceil(longest / step))
    right, height = PLOT_PX - 90, DELAY_ROW_PX * len(found)
    parts = [
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/><text class="soft small" x="{x:.1f}" '
        f'y="{height + 15}" text-anchor="middle">{tick * step:g} {escape(unit)}</text>'
        for tick in range(round(most / step) + 1)
        for x in [NAME_PX + right * tick * step / most]
    ]
    parts.append(f'<text class="soft small" x="{NAME_PX + right + 50}" y="{height + 15}">missed</text>')
    for number, (name, each) in enumerate(found.items()):
        y = number * DELAY_ROW_PX + DELAY_ROW_PX / 2
        parts.append(f'<text class="small" x="{NAME_PX - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        hits = [delay for delay in each if delay is not None]
        parts += [
            f'<circle class="strip-alarm" cx="{NAME_PX + right * delay / most:.1f}" cy="{y}" r="4" opacity=".75">'
            f"<title>{delay:g} {escape(unit)}</title></circle>"
            for delay in hits
        ]
        if missed := len(each) - len(hits):
            x = NAME_PX + right + 60
            parts.append(f'<circle class="missed" cx="{x}" cy="{y}" r="4"/>')
            parts.append(f'<text class="small" x="{x + 9}" y="{y + 4}">{missed if missed > 1 else ""}</text>')
    return _svg(NAME_PX + PLOT_PX + RIGHT_PX, height + AXIS_PX, title, "".join(parts))


# ---------------------------------------------------------------------- parts


def _svg(width: float, height: float, about: str, body: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(about)}">{body}</svg>'


def _x(row: float, rows: int) -> float:
    return NAME_PX + PLOT_PX * row / max(rows, 1)


def _spans(y: float, height: float, mask: Mask, kind: str) -> list[str]:
    rows = len(mask)
    return [
        f'<rect class="{kind}" x="{_x(first, rows):.1f}" y="{y}" '
        f'width="{max(_x(end, rows) - _x(first, rows), 1.0):.1f}" height="{height}"/>'
        for first, end in runs(mask)
    ]


def _name(y: float, name: str, *, small: bool = False) -> str:
    return f'<text class="{"small" if small else ""}" x="{NAME_PX - 8}" y="{y}" text-anchor="end">{escape(name)}</text>'


def _strip(y: float, name: str, mask: Mask, rows: int, kind: str) -> str:
    line = f'<line class="axis" x1="{NAME_PX}" x2="{_x(rows, rows)}" y1="{y + STRIP_PX}" y2="{y + STRIP_PX}"/>'
    return _name(y + 10, name, small=True) + line + "".join(_spans(y, STRIP_PX, mask, kind))


def _marks(y: float, name: str, marked: Mapping[str, Mask], rows: int) -> str:
    half, parts = STRIP_PX / 2, [_name(y + 10, name, small=True)]
    for number, (kind, mask) in enumerate(marked.items()):
        parts += [
            f'<line class="{kind}" x1="{_x(row, rows):.1f}" x2="{_x(row, rows):.1f}" y1="{y + number * half}" '
            f'y2="{y + number * half + half}"/>'
            for row in np.flatnonzero(mask).tolist()
        ]
    return "".join(parts)


def _trace(y: float, name: str, values: Floats, alarmed: Mask) -> str:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    points = _polylines(values, low, high, y)
    said = f'<text class="soft small" x="{NAME_PX - 8}" y="{y + 30}" text-anchor="end">{low:.4g} … {high:.4g}</text>'
    line = f'<line class="axis" x1="{NAME_PX}" x2="{NAME_PX + PLOT_PX}" y1="{y + TAG_PX}" y2="{y + TAG_PX}"/>'
    return line + "".join(_spans(y, TAG_PX, alarmed, "alarm")) + _name(y + 15, name) + said + points


def _polylines(values: Floats, low: float, high: float, y: float) -> str:
    """Return the trace: of every place its lowest and highest value, broken where no value is."""
    rows, span = len(values), (high - low) or 1.0
    edges = np.unique(np.linspace(0, rows, min(rows, POINTS_MAX) + 1).astype(np.int64))
    lines, line = list[list[str]](), list[str]()
    for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        here = values[first:end][np.isfinite(values[first:end])]
        if not len(here):
            lines, line = [*lines, line], []
            continue
        x = _x((first + end) / 2, rows)
        for value in dict.fromkeys((float(here.min()), float(here.max()))):
            line.append(f"{x:.1f},{y + 2 + (TAG_PX - 4) * (high - value) / span:.1f}")
    return "".join(f'<polyline class="trace" points="{" ".join(each)}"/>' for each in [*lines, line] if each)


def _row_axis(y: float, rows: int) -> str:
    step = _round_step(rows / TICKS)
    return f'<text class="soft small" x="{NAME_PX - 8}" y="{y + 12}" text-anchor="end">row</text>' + "".join(
        f'<text class="soft small" x="{_x(row, rows):.1f}" y="{y + 12}" text-anchor="middle">{row}</text>'
        for row in range(0, rows, max(1, round(step)))
    )


def _round_step(step: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50 and so on, in both directions.

    >>> [_round_step(step) for step in (0.03, 3, 90, 170)]
    [0.05, 5.0, 100.0, 200.0]
    """
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(round(factor * power, 12) for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
