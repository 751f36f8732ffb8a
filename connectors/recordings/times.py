"""Times of a recording as microseconds since 1970 UTC, each failure with its row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import RecordingError
from schemas.recording import RecordingMapping

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
PER_UNIT_US: Final = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}


def parse_times(file: str, column: pl.Series, mapping: RecordingMapping) -> NDArray[np.int64]:
    """Return the times of a column, shape `(rows,)`.

    Raises:
        RecordingError: unknown time zone, or a cell that is no time; rows count from 1 without the header.
    """
    zone = time_zone(file, mapping.time_zone)
    if isinstance(column.dtype, pl.Datetime):
        return _from_datetimes(file, column, mapping)
    read = _number_reader(mapping) if mapping.time_kind != "text" else _text_reader(mapping, zone)
    times = np.empty(len(column), dtype=np.int64)
    for k, cell in enumerate(column.to_list()):
        try:
            times[k] = read(cell)
        except (ValueError, TypeError, OverflowError) as error:
            raise _unreadable(file, mapping, k, cell) from error
    return times


def time_zone(file: str, name: str) -> tzinfo:
    """Return the zone of this name.

    Raises:
        RecordingError: there is none.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise RecordingError(
            file, "time_zone", f"unknown time zone {name!r}", "Use an IANA name such as 'Europe/Berlin'"
        ) from error


def _from_datetimes(file: str, column: pl.Series, mapping: RecordingMapping) -> NDArray[np.int64]:
    if column.null_count():
        raise _unreadable(file, mapping, int(column.is_null().arg_max() or 0), None)
    if getattr(column.dtype, "time_zone", None) is None:
        column = column.dt.replace_time_zone(mapping.time_zone, ambiguous="earliest", non_existent="null")
        if column.null_count():
            row = int(column.is_null().arg_max() or 0)
            raise _unreadable(file, mapping, row, "a local time skipped by daylight saving")
    return column.dt.epoch("us").to_numpy().astype(np.int64)


def _text_reader(mapping: RecordingMapping, zone: tzinfo) -> Any:
    def read(cell: object) -> int:
        text = str(cell).strip()
        pattern = mapping.time_format
        moment = datetime.strptime(text, pattern) if pattern else datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return (moment - EPOCH) // MICROSECOND

    return read


def _number_reader(mapping: RecordingMapping) -> Any:
    per_unit_us = PER_UNIT_US[mapping.time_kind]
    return lambda cell: round(float(cell) * per_unit_us)


def _unreadable(file: str, mapping: RecordingMapping, row: int, cell: object) -> RecordingError:
    kind = mapping.time_format or (
        "ISO 8601 text" if mapping.time_kind == "text" else f"a number in {mapping.time_kind}"
    )
    return RecordingError(
        file,
        f"column {mapping.time_column!r}, row {row + 1}",
        f"{cell!r} is not a time ({kind} was expected)",
        "Correct the cell, or set time_kind or time_format in the mapping",
    )
