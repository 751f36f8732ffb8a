"""Figures as tables for people: which columns each protocol shows, how they are written, and what to beware of."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.protocols.layout import Protocol
from pipelines.protocols.marks import ALL, Line
from pipelines.protocols.running import Ran

TEXT_WIDTH: Final = 110
WORDS: Final = 2
"""Columns at the left that hold words."""
Formats = Mapping[str, tuple[str, str]]
"""By figure: the column's head and how the number is written."""

ROWS: Final[Formats] = {
    "f1": ("F1", ".3f"), "mcc": ("MCC", ".3f"), "far_pct": ("FAR %", ".2f"), "mar_pct": ("MAR %", ".2f"),
    "rows": ("rows", "d"),
}  # fmt: skip
ALARMS: Final[Formats] = {
    "segments": ("segments", "d"), "segment_recall": ("found", ".3f"), "delay_median_s": ("delay median s", ".1f"),
    "delay_mean_s": ("mean s", ".1f"), "alarm_before_onset": ("on before", "d"),
    "false_episodes": ("false episodes", "d"), "false_episodes_per_h": ("per hour", ".3g"),
    "normal_h": ("normal h", ".2f"),
}  # fmt: skip
CHANGES: Final[Formats] = {
    "cp_standard": ("standard", ".2f"), "cp_low_fp": ("low FP", ".2f"), "cp_low_fn": ("low FN", ".2f"),
    "cp_windows": ("changes", "d"), "cp_missed": ("missed", "d"), "cp_false": ("false claims", "d"),
    "cp_delay_mean_s": ("delay mean s", ".1f"),
}  # fmt: skip
FAULTS: Final[Formats] = {
    "missed_pct": ("missed %", ".2f"), "missed_all_pct": ("with 3, 9, 15", ".2f"),
    "missed_3_9_15_pct": ("of 3, 9, 15", ".2f"), "far_pct": ("FAR %", ".2f"), "detected": ("detected", "d"),
    "faults": ("faults", "d"), "delay_median_rows": ("delay median rows", ".1f"), "delay_median_h": ("h", ".2f"),
}  # fmt: skip
FAULT: Final[Formats] = {
    "missed_pct": ("missed %", ".2f"), "delay_rows": ("delay rows", "d"), "false_before_rows": ("false before", "d"),
}  # fmt: skip
CORPUS: Final[Formats] = {
    "standard": ("standard", ".2f"), "low_fp": ("low FP", ".2f"), "low_fn": ("low FN", ".2f"),
    "standard_threshold": ("threshold", ".4f"), "files": ("files", "d"), "windows": ("windows", "d"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """One table."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    beware: str
    """How these figures deceive."""


BEWARE: Final[Mapping[str, str]] = {
    "rows": "F1 says little: more than half of the rows are abnormal, so an alarm that is always on scores about 0.70, "
    "and one that only counts rows above 0.9. Compare MCC and FAR, and false episodes below.",
    "alarms": "Who alarms always finds every segment at once and has no false episode: see how many alarms were on "
    "before the onset, and FAR. An hour of normal rows is little: read their number too, not only their rate.",
    "changes": "Half of the changes are ends of an anomaly. 0 is silence, 100 each change claimed at once.",
    "faults": "Faults 3, 9 and 15 hardly show in these tags: who detects them, detects noise. FAR is over the test "
    "without a fault and the rows before each onset.",
    "corpus": "Each score is that of the one threshold that suits all these files best, chosen with the labels: nobody "
    "gets it on files that were never seen. 0 is silence.",
}  # fmt: skip


def shown(ran: Ran) -> list[Shown]:
    """Return the tables of a protocol; none without labels."""
    lines = ran.lines()
    return {"skab": _skab, "tep": _tep, "nab": _nab}[ran.protocol](lines) if lines else []


def _skab(lines: Sequence[Line]) -> list[Shown]:
    return [
        _table("SKAB, row by row", lines, ROWS, "rows"),
        _table("SKAB, alarm by alarm", lines, ALARMS, "alarms"),
        _table("SKAB, change points", [line for line in lines if "cp_standard" in line.figures], CHANGES, "changes"),
    ]


def _tep(lines: Sequence[Line]) -> list[Shown]:
    overall = [line for line in lines if line.part == ALL]
    faults = [line for line in lines if line.part != ALL]
    return [
        _table("TEP, all faults", overall, FAULTS, "faults"),
        _table("TEP, fault by fault", faults, FAULT, ""),
        _table("TEP, alarm by alarm", overall, ALARMS, "alarms"),
    ]


def _nab(lines: Sequence[Line]) -> list[Shown]:
    alarms = [line for line in lines if "segments" in line.figures]
    return [
        _table("NAB, one threshold for all files", lines, CORPUS, "corpus"),
        _table("NAB, alarm by alarm (a window counts as a segment)", alarms, ALARMS, ""),
    ]


def _table(title: str, lines: Sequence[Line], formats: Formats, beware: str) -> Shown:
    named = {key: form for key, form in formats.items() if any(key in line.figures for line in lines)}
    rows = [
        (line.who, line.part, *(_number(line.figures.get(key), form) for key, (_, form) in named.items()))
        for line in lines
    ]
    return Shown(title, ("who", "part", *(head for head, _ in named.values())), tuple(rows), BEWARE.get(beware, ""))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


# ---------------------------------------------------------------------- as text


def text(results: Sequence[Ran]) -> str:
    """Return all tables as plain text, columns aligned; then what was left out, and why."""
    parts = [aligned(table) for ran in results for table in shown(ran) if table.rows]
    parts += [line for ran in results for line in remarks(ran)]
    return "\n".join(parts)


def aligned(table: Shown) -> str:
    """Return one table as plain text."""
    lines = [table.heads, *table.rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(table.heads))]
    lined = ["  ".join(map(_padded, line, widths, range(len(line)))) for line in lines]
    beware = textwrap.wrap(table.beware, TEXT_WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([table.title, *(f"  {line}".rstrip() for line in lined), *beware, ""])


def _padded(cell: str, width: int, place: int) -> str:
    return cell.ljust(width) if place < WORDS else cell.rjust(width)


def remarks(ran: Ran) -> list[str]:
    """Return what people must know beside the figures."""
    said = [f"not used: {error}" for error in ran.errors]
    if ran.unlabelled:
        some = ", ".join(ran.unlabelled[:3]) + (" …" if len(ran.unlabelled) > 3 else "")
        said.append(
            f"{ran.protocol}: predicted but not scored, for want of labels: {len(ran.unlabelled)} files ({some})"
        )
    if ran.interrupted:
        done = len(ran.judged) + len(ran.errors)
        said.append(
            f"{ran.protocol}: stopped after {done} of {ran.files} files; all figures are of those. Nothing resumes it: "
            "begin again for the rest"
        )
    return said


def document(results: Sequence[Ran]) -> dict[Protocol, object]:
    """Return everything as JSON has it, unrounded."""
    return {
        ran.protocol: {
            "lines": [{"who": line.who, "part": line.part, **line.figures} for line in ran.lines()],
            "files": [each.series.key for each in ran.judged],
            "errors": ran.errors,
            "unlabelled": ran.unlabelled,
            "interrupted": ran.interrupted,
        }
        for ran in results
    }
