"""The closed loop as one SVG: downtime by fault and agent, for docs/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

COLOURS: Final = ("#8a93a3", "#2f6f9f", "#b9852c", "#7a4f9e", "#3a8a5a", "#a23b3b")
"""By agent, in the order given."""
LABEL_PX, BAR_PX, VALUE_PX, ROW_PX, GAP_PX = 190, 460, 70, 15, 14


def svg(title: str, rows: Mapping[str, Mapping[str, float]], agents: Sequence[str], unit: str) -> str:
    """Return bars.

    Args:
        title: Above them.
        rows: Fault -> agent -> mean; one group of bars a fault.
        agents: In the order of the bars.
        unit: Of the values.
    """
    most = max((value for row in rows.values() for value in row.values()), default=1.0) or 1.0
    y, parts = 52, list[str]()
    for name, row in rows.items():
        middle = y + len(agents) * ROW_PX / 2 + 4
        parts.append(f'<text x="{LABEL_PX - 10}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>')
        for number, agent in enumerate(agents):
            parts.append(_bar(y, row.get(agent, 0.0), most, COLOURS[number % len(COLOURS)]))
            y += ROW_PX
        y += GAP_PX
    width = LABEL_PX + BAR_PX + VALUE_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" '
        'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{width}" height="{y}" fill="#ffffff"/>'
        f'<text x="8" y="18" font-size="14" font-weight="600">{escape(title)}, {escape(unit)}</text>'
        f"{_legend(agents)}{''.join(parts)}</svg>\n"
    )


def _bar(y: float, value: float, most: float, colour: str) -> str:
    width = max(value, 0.0) / most * BAR_PX
    return (
        f'<rect x="{LABEL_PX}" y="{y + 1}" width="{width:.1f}" height="{ROW_PX - 3}" fill="{colour}"/>'
        f'<text x="{LABEL_PX + width + 5:.1f}" y="{y + ROW_PX - 4}" font-size="11">{value:.0f}</text>'
    )


def _legend(agents: Sequence[str]) -> str:
    x, parts = float(LABEL_PX), list[str]()
    for number, agent in enumerate(agents):
        parts.append(f'<rect x="{x:.0f}" y="28" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="37">{escape(agent)}</text>')
        x += 30 + 7 * len(agent)
    return "".join(parts)
