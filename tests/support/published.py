"""Small folders laid out as the published sets, made here: nothing of theirs is in this repository."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = 700
ONSET, END = 500, 600


def skab_file(folder: Path, name: str = "valve1/0", *, seed: int = 0, shift: float = 4.0, labels: bool = True) -> Path:
    """Write 700 rows of two tags, abnormal in rows 500..599: the pressure is `shift` bar off."""
    random = np.random.default_rng(seed)
    lines = ["datetime;Pressure;Volume Flow" + (";anomaly;changepoint" if labels else "")]
    for row in range(ROWS):
        abnormal = ONSET <= row < END
        pressure = 5 + 0.1 * random.standard_normal() + (shift if abnormal else 0.0)
        time = (T0 + timedelta(seconds=row)).strftime("%Y-%m-%d %H:%M:%S")
        said = f";{float(abnormal)};{float(row in (ONSET, END))}" if labels else ""
        lines.append(f"{time};{pressure:.6f};{30 + random.standard_normal():.6f}{said}")
    path = folder / "skab" / f"{name}.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def tep_files(folder: Path, *, rows: int = 220) -> Path:
    """Write a normal recording, a test without and a test with a fault from row 160 on."""
    (folder / "tep").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("d00", "d00_te", "d01_te", "d03_te")):
        values = np.random.default_rng(seed).standard_normal((rows, 3))
        values[160:, 1] += 20.0 * (name == "d01_te")
        pl.DataFrame(values, schema=["XMEAS_1", "XMEAS_2", "XMV_1"]).write_parquet(folder / "tep" / f"{name}.parquet")
    return folder / "tep"


def nab_file(folder: Path, *, rows: int = 400, window: bool = True) -> Path:
    """Write one number a row; it spikes at row 300, in a window of 21 rows."""
    value = np.random.default_rng(0).standard_normal(rows)
    value[300] = 40.0
    times = [(T0 + timedelta(minutes=5 * row)).strftime("%Y-%m-%d %H:%M:%S") for row in range(rows)]
    path = folder / "nab" / "realKnownCause" / "one.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("timestamp,value\n" + "\n".join(f"{t},{v:.6f}" for t, v in zip(times, value, strict=True)) + "\n")
    if window:
        spans = {"realKnownCause/one.csv": [[times[295] + ".000000", times[315] + ".000000"]]}
        (folder / "nab" / "combined_windows.json").write_text(json.dumps(spans))
    return path
