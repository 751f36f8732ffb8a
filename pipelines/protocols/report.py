"""The report of a run over published protocols: one HTML page with tables, delays, and every recording drawn."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import numpy as np

from connectors.eventlog.files import write_durably
from pipelines.html import whole_page
from pipelines.protocols import plots
from pipelines.protocols.layout import SKAB_FIT_ROWS, Protocol
from pipelines.protocols.marks import Judged
from pipelines.protocols.results import Shown, remarks, shown
from pipelines.protocols.running import Ran
from pipelines.protocols.segments import runs
from pipelines.protocols.windows import probation_rows
from schemas.errors import RecordingError

NAME: Final = "report.html"
RAISED_MAX: Final = 30
"""Alarms of one recording that are listed."""
ABOUT: Final = (
    "The product's own detectors in their one configuration, over the rows of each file as they come: what is alarmed "
    "at a row was known when that row had arrived. Beside them stand those who do not look at the process at all."
)
HEADINGS: Final = {
    "skab": "SKAB, a water loop",
    "tep": "Tennessee Eastman, a chemical plant",
    "nab": "NAB, single series",
}


def report_target(path: Path) -> Path:
    """Return the file of a report that shall go to a file or a folder.

    Raises:
        RecordingError: there is no such folder.
    """
    if path.suffix == ".html":
        if not path.absolute().parent.is_dir():
            raise RecordingError(str(path), "folder", "there is no such folder", "Make it first")
        return path
    if path.exists() and not path.is_dir():
        raise RecordingError(str(path), "name", "it is a file and no HTML page", "Name a folder, or FILE.html")
    return path / NAME


def write_report(results: Sequence[Ran], path: Path) -> None:
    """Write the page. It is whole, or what was there before.

    Raises:
        RecordingError: the disk did not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, page(results).encode())
    except OSError as error:
        remedy = "Free the disk, or name another place"
        raise RecordingError(str(path), "file", f"cannot be written: {error}", remedy) from error


def page(results: Sequence[Ran]) -> str:
    """Return the page. Whatever was read from files is escaped."""
    parts = [part for ran in results for part in _protocol(ran)]
    return whole_page("Jidoka: detection measured", "Detection measured", ABOUT, parts, style=plots.STYLE)


def _protocol(ran: Ran) -> list[str]:
    parts = [f"<h2>{HEADINGS[ran.protocol]}</h2>"]
    parts += [f"<p>{escape(line)}</p>" for line in remarks(ran)]
    parts += [_table(table) for table in shown(ran) if table.rows]
    parts += [_delays(ran), "<h3>Recordings</h3>", _legend()]
    parts += [_recording(judged, learnt_rows(ran.protocol, judged)) for judged in ran.judged]
    return parts


def learnt_rows(protocol: Protocol, judged: Judged) -> int:
    """Return how many rows at the beginning of a recording were for learning."""
    rows = len(judged.series)
    return {"skab": min(SKAB_FIT_ROWS, rows), "tep": 0, "nab": probation_rows(rows)}[protocol]


def _table(table: Shown) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in table.heads)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return (
        f'<h3>{escape(table.title)}</h3><div class="wide"><table><tr>{head}</tr>{rows}</table></div>'
        f"<p>{escape(table.beware)}</p>"
    )


def _delays(ran: Ran) -> str:
    """Return all delays of the protocol; nothing if nothing is labelled."""
    found: dict[str, list[float | None]] = {}
    hours = ran.protocol != "skab"
    for judged in ran.judged:
        series, first_row = judged.series, learnt_rows(ran.protocol, judged)
        label, pred = series.label[first_row:], judged.predictions.pred[first_row:]
        seconds = series.seconds[first_row:]
        for first, end in runs(label):
            hit = np.flatnonzero(pred[first:end])
            delay_s = float(seconds[first + hit[0]] - seconds[first]) if len(hit) else None
            name = series.key.removeprefix(f"{ran.protocol}/")[-28:]
            found.setdefault(name, []).append(delay_s if delay_s is None or not hours else delay_s / 3600)
    if not found:
        return ""
    said = "A dot for each labelled segment that was found, by its delay; a ring for one that was missed."
    svg = plots.delays("Delay of each labelled segment", found, "h" if hours else "s")
    return f"<h3>Delays</h3><figure>{svg}<figcaption>{said}</figcaption></figure>"


def _legend() -> str:
    keys = {
        "--other": "labelled abnormal",
        "--bar": "alarm on; in a tag's plot, its own alarm",
        "--line": "for learning",
    }
    return (
        "<p>" + "".join(f'<span class="key" style="background: var({c})"></span>{t}' for c, t in keys.items()) + "</p>"
    )


def _recording(judged: Judged, learnt: int) -> str:
    series, predictions = judged.series, judged.predictions
    alarms = len(runs(predictions.pred[learnt:]))
    hidden = len(series.columns) - len(plots.tags_drawn(judged))
    more = f"<figcaption>{hidden} more tags are not drawn.</figcaption>" if hidden else ""
    listed = "".join(
        f"<tr><td>{escape(each.tag)}</td><td>{escape(each.detector)}</td><td>{each.from_row}</td>"
        f"<td>{each.until_row}</td><td>{escape(each.detail)}</td></tr>"
        for each in predictions.raised[:RAISED_MAX]
    )
    left = len(predictions.raised) - RAISED_MAX
    table = (
        '<table class="raised"><tr><th>tag</th><th>detector</th><th>from row</th><th>until row</th><th>what</th></tr>'
        f"{listed}</table>" + (f"<p>{left} more.</p>" if left > 0 else "")
        if listed
        else ""
    )
    return (
        f"<details><summary>{escape(series.key)}: {len(series)} rows; alarms: {alarms}; "
        f"labelled segments: {len(runs(series.label))}</summary>"
        f'<figure>{plots.recording(judged, learnt)}{more}</figure><div class="wide">{table}</div></details>'
    )
