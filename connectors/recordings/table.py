"""A recorded file as arrays: read, checked whole, times ascending. Nothing is dropped without being told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connectors.recordings.times import parse_times
from schemas.errors import RecordingError
from schemas.recording import RecordingMapping

SUFFIXES = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A file's samples."""

    file: str
    at: NDArray[np.int64]
    """Shape `(rows,)`, strictly ascending, microseconds since 1970 UTC."""
    values: NDArray[np.float64]
    """Shape `(rows, columns)`, in the tags' units; NaN where the cell holds no number."""
    not_numbers: dict[str, int]
    """By column: cells without a number. They become samples that are not good."""
    sorted_n: int
    """Rows that were out of order and were sorted in."""
    dropped_n: int
    """Rows of a time that a later row has too."""


def read(path: Path, mapping: RecordingMapping) -> Recording:
    """Read and check a file.

    Raises:
        RecordingError: what is wrong, where, and what to do about it.
    """
    file = str(path)
    frame = load(path, mapping.separator)
    _check_columns(file, frame, mapping)
    at = parse_times(file, frame[mapping.time_column], mapping)
    order, sorted_n = _in_order(file, at, mapping)
    keep = _distinct(file, at, order, mapping)
    numbers = [frame[c.column].cast(pl.Float64, strict=False).to_numpy() * c.factor for c in mapping.columns]
    values = np.column_stack([column.astype(np.float64) for column in numbers])[keep]
    bad = {c.column: int((~np.isfinite(values[:, k])).sum()) for k, c in enumerate(mapping.columns)}
    return Recording(
        file, at[keep], values, {c: n for c, n in bad.items() if n}, sorted_n, dropped_n=len(at) - len(keep)
    )


def load(path: Path, separator: str) -> pl.DataFrame:
    """Return the file's table; cells of a CSV file are text.

    Raises:
        RecordingError: no file, not a table, or no rows.
    """
    file = str(path)
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        elif path.name.endswith(SUFFIXES):
            frame = pl.read_csv(path, separator=separator, infer_schema=False)
        else:
            raise RecordingError(file, "name", "unknown kind of file", f"Use one of {', '.join(SUFFIXES)}")
    except pl.exceptions.NoDataError as error:
        raise RecordingError(file, "file", "it is empty", "Export it again") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecordingError(file, "file", f"cannot be read: {first}", "Check that it is whole and readable") from error
    if frame.is_empty():
        raise RecordingError(file, "file", "it has a header and no rows", "Export it again")
    return frame


def _check_columns(file: str, frame: pl.DataFrame, mapping: RecordingMapping) -> None:
    there = ", ".join(frame.columns)
    if mapping.time_column not in frame.columns:
        problem = f"there is no time column of this name among {there}"
        raise RecordingError(file, f"column {mapping.time_column!r}", problem, "Set time_column in the mapping")
    for column in mapping.columns:
        if column.column not in frame.columns:
            problem = f"mapped to {column.tag!r} but not among {there}"
            raise RecordingError(file, f"column {column.column!r}", problem, "Correct the mapping or the separator")
    known = {mapping.time_column, *mapping.ignore, *(c.column for c in mapping.columns)}
    for name in frame.columns:
        if name not in known:
            raise RecordingError(
                file, f"column {name!r}", "neither mapped to a tag nor ignored", "Add it to columns or to ignore"
            )


def _in_order(file: str, at: NDArray[np.int64], mapping: RecordingMapping) -> tuple[NDArray[np.int64], int]:
    """Return the order of rows by time, and how many come after a later one."""
    back = np.flatnonzero(at < np.maximum.accumulate(at))
    if len(back) and mapping.out_of_order == "refuse":
        problem = f"{len(back)} rows are earlier than one before them, the first is row {back[0] + 1}"
        raise RecordingError(file, f"column {mapping.time_column!r}", problem, 'Set out_of_order = "sort" to sort them')
    return np.argsort(at, kind="stable"), len(back)


def _distinct(
    file: str, at: NDArray[np.int64], order: NDArray[np.int64], mapping: RecordingMapping
) -> NDArray[np.int64]:
    """Return the rows to keep, by time; of rows with the same time the last one of the file."""
    same = np.flatnonzero(np.diff(at[order]) == 0)
    if len(same) and mapping.duplicates == "refuse":
        first = int(order[same + 1].min())
        problem = f"{len(same)} rows repeat the time of another, the first is row {first + 1}"
        raise RecordingError(
            file, f"column {mapping.time_column!r}", problem, 'Set duplicates = "last" to let the last one stand'
        )
    return np.delete(order, same)
