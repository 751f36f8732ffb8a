"""The folders of the three published sets: `skab/`, `tep/` and `nab/` below one folder, each as its README says.

Labels may be left out: files are then predicted and not scored. What cannot be read is an error with file, field and
remedy, never a row less.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec
import numpy as np
import polars as pl

from connectors.recordings.sniff import sniff
from connectors.recordings.table import SUFFIXES, load
from connectors.recordings.times import EPOCH, parse_times
from pipelines.features.packed import Floats, Mask
from pipelines.protocols.faults import ONSET_ROW, STEP_S
from pipelines.protocols.series import Series
from schemas.errors import RecordingError
from schemas.recording import RecordingMapping

Protocol = Literal["skab", "tep", "nab"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
SKAB_FIT_ROWS: Final = 400
ANOMALY_FREE: Final = "anomaly-free"
"""Folder or file of SKAB's run without labels: predicted, and no part of the leaderboard's figures."""
TEP_FIT: Final = "d00"
TEP_TEST: Final = "_te"
BEGIN_S: Final = 946_684_800.0
"""The recordings of TEP have no times: they begin with the year 2000."""
WINDOWS: Final = ("combined_windows.json", "labels/combined_windows.json")
SECOND_DIGITS: Final = 19
"""Of `2014-04-10 07:15:00.000000`, which NAB writes with and without its fraction."""


def protocols_in(folder: Path, wanted: Sequence[Protocol]) -> list[Protocol]:
    """Return which of these sets are below a folder.

    Raises:
        RecordingError: none of them is.
    """
    found = [name for name in wanted if (folder / name).is_dir()]
    if not found:
        problem = f"there is no folder {', '.join(wanted)} in it"
        remedy = "Name the folder that holds skab/, tep/ or nab/ (docs/backtest.md shows the layout)"
        raise RecordingError(str(folder), "layout", problem, remedy)
    return found


def files_of(folder: Path, protocol: Protocol) -> list[Path]:
    """Return the recordings of a set, in the order of their names. Links to folders are followed.

    Raises:
        RecordingError: there are none.
    """
    files = [
        Path(inside) / name
        for inside, _, names in os.walk(folder / protocol, followlinks=True)
        for name in names
        if name.endswith(SUFFIXES)
    ]
    if not files:
        problem = f"no file that ends in {', '.join(SUFFIXES)}"
        raise RecordingError(str(folder / protocol), "folder", problem, "Put the recordings there")
    return sorted(files, key=str)


def key_of(folder: Path, path: Path) -> str:
    """Return how tables of predictions name a file.

    >>> key_of(Path("d"), Path("d/skab/valve1/0.csv.gz"))
    'skab/valve1/0'
    """
    key = path.relative_to(folder).as_posix()
    for suffix in (".gz", ".csv", ".parquet"):
        key = key.removesuffix(suffix)
    return key


# ---------------------------------------------------------------------- one file


def read_skab(folder: Path, path: Path) -> Series:
    """Read a file of SKAB: a time, numbers, and perhaps `anomaly` and `changepoint`.

    Raises:
        RecordingError: what is wrong, where, and what to do about it.
    """
    frame, mapping, seconds = _timed(path)
    values, columns = _numbers(path, frame, [c.column for c in mapping.columns])
    label, change = (_label(path, frame, name) for name in ("anomaly", "changepoint"))
    return Series(key_of(folder, path), str(path), seconds, values, columns, label, change)


def read_tep(folder: Path, path: Path) -> Series:
    """Read a file of the Tennessee Eastman process: numbers alone, a row every 180 s; a fault from row 160 on in tests.

    Raises:
        RecordingError: what is wrong, where, and what to do about it.
    """
    frame = load(path, ",")
    values, columns = _numbers(path, frame, frame.columns)
    key, row = key_of(folder, path), np.arange(len(frame))
    faulty: Mask | None = None
    if key.endswith(TEP_TEST):
        faulty = (row >= ONSET_ROW) & (key != f"tep/{TEP_FIT}{TEP_TEST}")
        if len(row) <= ONSET_ROW:
            problem = f"{len(row)} rows, and the fault begins at row {ONSET_ROW}"
            raise RecordingError(str(path), "rows", problem, "Take the whole test file")
    return Series(key, str(path), (BEGIN_S + row * STEP_S).astype(np.float64), values, columns, faulty)


def read_nab(folder: Path, path: Path, windows: Mapping[str, Sequence[Sequence[str]]] | None) -> Series:
    """Read a file of NAB: a time and one number.

    Args:
        folder: That holds `nab/`.
        path: Of the file.
        windows: From its path below `nab/` to begin and end of its windows; None: nobody labelled anything.

    Raises:
        RecordingError: what is wrong, where, and what to do about it.
    """
    frame, mapping, seconds = _timed(path)
    values, columns = _numbers(path, frame, [c.column for c in mapping.columns])
    key = key_of(folder, path)
    given = (windows or {}).get(f"{key.removeprefix('nab/')}.csv")
    spans = None if given is None else tuple(_span(path, seconds, window) for window in given)
    return Series(key, str(path), seconds, values, columns, windows=spans)


def read_windows(folder: Path) -> dict[str, list[list[str]]] | None:
    """Return NAB's windows by path; None if no file of them is there.

    Raises:
        RecordingError: the file is not what it should be.
    """
    for name in WINDOWS:
        path = folder / "nab" / name
        if not path.is_file():
            continue
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, list[list[str]]])
        except (OSError, msgspec.DecodeError) as error:
            shape = json.dumps({"group/file.csv": [["2014-04-10 07:15:00", "2014-04-11 16:45:00"]]})
            raise RecordingError(str(path), "windows", str(error), f"Write it as {shape}") from error
    return None


# ---------------------------------------------------------------------- parts of a file


def _timed(path: Path) -> tuple[pl.DataFrame, RecordingMapping, Floats]:
    mapping = sniff(path).mapping
    frame = load(path, mapping.separator)
    return frame, mapping, parse_times(str(path), frame[mapping.time_column], mapping) / 1e6


def _numbers(path: Path, frame: pl.DataFrame, columns: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    values = np.column_stack([frame[name].cast(pl.Float64, strict=False).to_numpy() for name in columns])
    empty = [name for name, some in zip(columns, np.isfinite(values).any(axis=0), strict=True) if not some]
    if empty:
        remedy = "Leave the column out, or check the separator"
        raise RecordingError(str(path), f"column {empty[0]!r}", "it holds no number", remedy)
    return np.where(np.isfinite(values), values, np.nan), tuple(columns)


def _label(path: Path, frame: pl.DataFrame, name: str) -> Mask | None:
    """Return a column of zeros and ones; None if the file has none of this name."""
    column = next((column for column in frame.columns if column.strip().lower() == name), None)
    if column is None:
        return None
    values = frame[column].cast(pl.Float64, strict=False).to_numpy()
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        problem = f"{frame[column][int(wrong[0])]!r} is no label"
        where = f"column {column!r}, row {int(wrong[0]) + 1}"
        raise RecordingError(str(path), where, problem, "Write 0 or 1, or leave the whole column out")
    mask: Mask = values > 0
    return mask


def _span(path: Path, seconds: Floats, window: Sequence[str]) -> tuple[int, int]:
    if len(window) != 2:
        raise RecordingError(str(path), "windows", f"{list(window)} is not a begin and an end", "Give both")
    return _row_of(path, seconds, window[0]), _row_of(path, seconds, window[1])


def _row_of(path: Path, seconds: Floats, text: str) -> int:
    """Return the first row of this time."""
    where = f"window at {text!r}"
    try:
        moment = datetime.fromisoformat(text[:SECOND_DIGITS]).replace(tzinfo=EPOCH.tzinfo)
    except ValueError as error:
        remedy = "Write it as 2014-04-10 07:15:00"
        raise RecordingError(str(path), where, "it is no time", remedy) from error
    rows = np.flatnonzero(seconds == (moment - EPOCH).total_seconds())
    if not len(rows):
        remedy = "Take the windows that belong to this version of the file"
        raise RecordingError(str(path), where, "no row of the file has this time", remedy)
    return int(rows[0])
