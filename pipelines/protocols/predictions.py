"""Predictions as a table: `file, row, pred, cp, score`, which an outside scorer can read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from connectors.eventlog.files import write_durably
from pipelines.protocols.predicting import Predictions
from schemas.errors import RecordingError

SUFFIXES: Final = (".parquet", ".csv")
SCORE_DIGITS: Final = 12
"""NAB's own results keep so many."""


def table(predictions: Sequence[Predictions]) -> pl.DataFrame:
    """Return the table, a line for each row of each file.

    `file` is the path relative to the folder without extension, `row` counts from 0, `pred` and `cp` are 0 or 1,
    `score` lies in 0..1.
    """
    schema = {"file": pl.String, "row": pl.Int64, "pred": pl.Int8, "cp": pl.Int8, "score": pl.Float64}
    frames = [
        pl.DataFrame(
            {
                "file": [each.key] * len(each),
                "row": np.arange(len(each)),
                "pred": each.pred.astype(np.int8),
                "cp": each.cp.astype(np.int8),
                "score": np.round(each.score, SCORE_DIGITS),
            },
            schema=schema,
        )
        for each in predictions
    ]
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def check_target(path: Path) -> None:
    """Refuse a place for the table before any work is done.

    Raises:
        RecordingError: unknown kind of file, or no such folder.
    """
    if path.suffix not in SUFFIXES:
        raise RecordingError(str(path), "name", "unknown kind of file", f"Use one of {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise RecordingError(str(path), "folder", "there is no such folder", "Make it first")


def write(predictions: Sequence[Predictions], path: Path) -> None:
    """Write the table. It is whole, or what was there before.

    Raises:
        RecordingError: see `check_target`; or the disk did not take it.
    """
    check_target(path)
    held, frame = io.BytesIO(), table(predictions)
    if path.suffix == ".parquet":
        frame.write_parquet(held)
    else:
        frame.write_csv(held)
    try:
        write_durably(path, held.getvalue())
    except OSError as error:
        remedy = "Free the disk, or name another place"
        raise RecordingError(str(path), "file", f"cannot be written: {error}", remedy) from error
