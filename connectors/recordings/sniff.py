"""A default mapping and a cell for a file that nobody described: all number columns are process tags of one asset."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connectors.recordings.table import load
from connectors.recordings.times import parse_times
from schemas.errors import RecordingError
from schemas.plant import Asset, Cell, Group, Range, Tag
from schemas.recording import RecordedColumn, RecordingMapping, TimeKind

TIME_NAMES: Final = ("datetime", "timestamp", "time", "date", "ts")
LABEL_NAMES: Final = ("anomaly", "changepoint", "label", "labels", "is_anomaly")
SEPARATORS: Final = (",", ";", "\t")
HEADER_BYTES_MAX: Final = 65_536
RANGE_SPANS: Final = 100.0
"""A sniffed tag's range goes this many times its recorded span beyond it: nothing real is disbelieved."""
HOLD_PERIODS: Final = 3.0
"""A value stands for so many periods where rows are missing."""
WARM_UP_ROWS_MAX: Final = 400
WARM_UP_DIVISOR: Final = 4
"""A sniffed file's normal is learnt from its first quarter, at most from `WARM_UP_ROWS_MAX` rows."""
WARM_UP_ROWS_MIN: Final = 10
EPOCH_LIMITS: Final[tuple[tuple[TimeKind, float], ...]] = (("s", 1e11), ("ms", 1e14), ("us", 1e17), ("ns", 1e20))
"""Numbers below these are times in that unit, until the year 5138."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What a file seems to be."""

    mapping: RecordingMapping
    cell: Cell


def sniff(path: Path, *, warm_up_rows: int | None = None) -> Sniffed:
    """Draw up a mapping and a cell for an unknown file.

    Args:
        path: CSV, CSV.gz or Parquet.
        warm_up_rows: Rows at the file's beginning that are taken for normal; None: its first quarter, at most 400.

    Raises:
        RecordingError: unreadable, no time column, or no number column.
    """
    separator = _separator(path)
    frame = load(path, separator)
    time_column = _time_column(path, frame)
    numbers, ignored = _number_columns(frame, time_column)
    if not numbers:
        raise RecordingError(str(path), "columns", "no column holds numbers", "Check the separator")
    tags = tag_names(list(numbers))
    mapping = RecordingMapping(
        time_column=time_column,
        time_kind=_time_kind(frame[time_column]),
        separator=separator,
        columns=tuple(RecordedColumn(column=column, tag=tag) for column, tag in tags.items()),
        ignore=tuple(ignored),
    )
    steps = np.diff(np.unique(parse_times(str(path), frame[time_column], mapping)))
    rows = warm_up_rows or max(WARM_UP_ROWS_MIN, min(WARM_UP_ROWS_MAX, len(frame) // WARM_UP_DIVISOR))
    period_s = float(np.median(steps)) / 1e6 if len(steps) else 1.0
    return Sniffed(mapping, _cell(path, {tags[c]: numbers[c] for c in tags}, period_s, rows))


def _separator(path: Path) -> str:
    """Return the separator that the header has most of; the first bytes decide."""
    if path.suffix == ".parquet":
        return ","
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(HEADER_BYTES_MAX).split(b"\n", 1)[0].decode("utf-8", errors="replace")
    except (OSError, EOFError) as error:
        raise RecordingError(
            str(path), "file", f"cannot be read: {error}", "Check that it is there and whole"
        ) from error
    return max(SEPARATORS, key=header.count)


def _time_column(path: Path, frame: pl.DataFrame) -> str:
    for name in TIME_NAMES:
        for column in frame.columns:
            if column.strip().lower() == name or isinstance(frame[column].dtype, pl.Datetime):
                return column
    raise RecordingError(
        str(path),
        "columns",
        f"no time column among {', '.join(frame.columns)}",
        f"Name it one of {', '.join(TIME_NAMES)}, or give a mapping with time_column",
    )


def _time_kind(column: pl.Series) -> TimeKind:
    """Tell numbers from text by the first cell, and the unit by its size."""
    number = _number(column[0])
    if number is None:
        return "text"
    return next((kind for kind, limit in EPOCH_LIMITS if abs(number) < limit), "text")


def _number(cell: object) -> float | None:
    try:
        return float(str(cell))
    except ValueError:
        return None


def _number_columns(frame: pl.DataFrame, time_column: str) -> tuple[dict[str, pl.Series], list[str]]:
    """Return the columns in which some cell is a number, and the names of all others but the time."""
    numbers, ignored = {}, []
    for column in frame.columns:
        if column == time_column:
            continue
        values = frame[column].cast(pl.Float64, strict=False)
        values = values.filter(values.is_finite())
        if column.strip().lower() in LABEL_NAMES or values.is_empty():
            ignored.append(column)
        else:
            numbers[column] = values
    return numbers, ignored


def tag_names(columns: list[str]) -> dict[str, str]:
    """Return a legal, distinct tag name for each column."""
    names: dict[str, str] = {}
    for column in columns:
        name = _slug(column, "_")
        name = name if name[:1].isalpha() else f"c_{name}"
        taken = set(names.values())
        names[column] = next(n for n in (name, *(f"{name}_{k}" for k in range(2, 10_000))) if n not in taken)
    return names


def _slug(text: str, joint: str) -> str:
    return re.sub(r"[^a-z0-9]+", joint, text.lower()).strip(joint) or "x"


def _cell(path: Path, numbers: dict[str, pl.Series], period_s: float, warm_up_rows: int) -> Cell:
    stem = _slug(path.name.split(".")[0], "-")
    return Cell(
        id=stem,
        path=f"recording/file/{_slug(path.parent.name, '-')}/line/{stem}",
        namespace="urn:jidoka:recording",
        lateness_s=0.0,
        assets=(Asset(id="recorded", title=path.name),),
        groups=(Group(id="rows", period_s=period_s, warm_up_rows=warm_up_rows),),
        tags=tuple(
            Tag(
                id=number,
                name=name,
                asset="recorded",
                node=f"/{name}",
                unit="1",
                range=believed(values.to_numpy()),
                group="rows",
                hold_s=HOLD_PERIODS * period_s,
            )
            for number, (name, values) in enumerate(numbers.items(), 1)
        ),
    )


def believed(values: NDArray[np.float64]) -> Range:
    """Return the range in which values like these are believed, shape `(n,)`, no NaN."""
    low, high = float(values.min()), float(values.max())
    margin = RANGE_SPANS * ((high - low) or max(1.0, abs(high)))
    return Range(low=low - margin, high=high + margin)
