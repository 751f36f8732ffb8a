"""Results as one HTML page that needs nothing else: no script, no style sheet, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from pipelines.evaluation.figures import ALL, Figures, Result, why
from pipelines.evaluation.intervals import Estimate
from pipelines.evaluation.words import SHARES, TIMES, idle_share, lone_action, share_text, time_text
from pipelines.html import whole_page

BAR_PX, ROW_PX, LABEL_PX, VALUE_PX = 420, 24, 330, 130
MISSED_MAX: Final = 200
"""Cases listed for one reasoner; the JSON output has all."""


def page(results: Sequence[Result]) -> str:
    """Return the page. Whatever was read from a set or said by a model is escaped."""
    sets = dict.fromkeys(result.set_sha256 for result in results)
    parts = [_set([result for result in results if result.set_sha256 == sha256]) for sha256 in sets]
    about = (
        "In brackets, and as thin lines, 95 % intervals: Wilson's for shares, order statistics for times. Plans "
        "were judged before the guard; nothing was sent."
    )
    return whole_page("Jidoka: reasoners measured", "Reasoners measured", about, parts)


def _set(results: Sequence[Result]) -> str:
    first = results[0]
    cases = tuple(asked.case for asked in first.asked)
    name, lone = lone_action(cases)
    beside = f"Who never acts is right in {100 * idle_share(cases):.0f} %"
    beside += f", who always answers {escape(name)} in {100 * lone:.0f} %." if name else "."
    parts = [
        f"<h2>{escape(first.set_name)}</h2>",
        f"<p>{len(cases)} cases, set <code>{first.set_sha256[:16]}</code>. {beside}</p>",
        _chart(results),
        *(_reasoner(result) for result in results),
    ]
    return "\n".join(parts)


def _chart(results: Sequence[Result]) -> str:
    """Return exact answers by class as bars, and what others published beside them."""
    rows = [
        (f"{result.reasoner}, {figures.kind}", figures.exact, "bar")
        for result in results
        for figures in result.by_kind
        if figures.exact is not None
    ]
    rows += [
        (f"{p.who}, {p.of or ALL} (published)", Estimate(p.exact, p.exact, p.exact), "other")
        for p in results[0].published
    ]
    height = ROW_PX * (len(rows) + 1)
    bars = "".join(_bar(number, *row) for number, row in enumerate(rows))
    ticks = "".join(
        f'<line class="axis" x1="{_x(n / 100):.0f}" x2="{_x(n / 100):.0f}" y1="0" y2="{height - ROW_PX}"/>'
        f'<text class="soft" x="{_x(n / 100):.0f}" y="{height - 6}" text-anchor="middle">{n} %</text>'
        for n in (0, 25, 50, 75, 100)
    )
    sources = "; ".join(dict.fromkeys(escape(p.source) for p in results[0].published))
    more = f" Published figures: {sources}. Their cases were others." if sources else ""
    return (
        f'<figure><svg viewBox="0 0 {LABEL_PX + BAR_PX + VALUE_PX} {height}" role="img" '
        f'aria-label="Share of exact plans">{ticks}{bars}</svg>'
        f"<figcaption>Share of exact plans.{more}</figcaption></figure>"
    )


def _x(share: float) -> float:
    return LABEL_PX + share * BAR_PX


def _bar(number: int, label: str, share: Estimate, kind: str) -> str:
    y, said = number * ROW_PX, share_text(share) if share.high > share.low else f"{100 * share.value:.0f}"
    whisker = (
        f'<line class="whisker" x1="{_x(share.low):.1f}" x2="{_x(share.high):.1f}" y1="{y + 12}" y2="{y + 12}"/>'
        if share.high > share.low
        else ""
    )
    return (
        f'<text x="{LABEL_PX - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>'
        f'<rect class="{kind}" x="{LABEL_PX}" y="{y + 5}" width="{share.value * BAR_PX:.1f}" height="14" rx="2"/>'
        f'{whisker}<text x="{LABEL_PX + BAR_PX + 8}" y="{y + 16}">{said}</text>'
    )


def _reasoner(result: Result) -> str:
    head = "".join(f'<th title="{escape(about)}">{escape(name)}</th>' for name, (_, about) in SHARES.items())
    head += "".join(f"<th>{name}</th>" for name in TIMES)
    rows = "".join(_row(figures) for figures in result.by_kind)
    identity = ", ".join(f"{key} {value}" for key, value in sorted(result.identity.items()))
    missed = [asked for asked in result.asked if not asked.judged.exact]
    listed = "".join(
        f"<tr><td>{escape(a.case.id)}</td><td>{escape(a.case.kind)}</td><td>{escape(why(a))}</td></tr>"
        for a in missed[:MISSED_MAX]
    )
    return (
        f"<h3>{escape(result.reasoner)}</h3><p><code>{escape(identity)}</code></p>"
        f'<div class="wide"><table><tr><th>class</th><th>cases</th>{head}</tr>{rows}</table></div>'
        f"<details><summary>{len(missed)} cases not answered exactly</summary><table>{listed}</table></details>"
    )


def _row(figures: Figures) -> str:
    shares = "".join(f"<td>{share_text(column(figures))}</td>" for column, _ in SHARES.values())
    times = "".join(f"<td>{time_text(column(figures))}</td>" for column in TIMES.values())
    return f"<tr><td>{escape(figures.kind)}</td><td>{figures.cases_n}</td>{shares}{times}</tr>"
