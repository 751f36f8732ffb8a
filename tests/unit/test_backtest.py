"""Backtest: files and folders to a table of episodes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from pipelines import acceptance
from pipelines.backtest import backtest
from pipelines.detectors.config import DetectorConfig
from schemas.errors import RecordingError

S = 1_000_000
T0 = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * S


def recording(folder: Path, name: str, *, shift_rows: range = range(0)) -> Path:
    random = np.random.default_rng(0)
    lines = ["ts,pressure,flow"]
    for k in range(400):
        pressure = 5.0 + 0.1 * random.standard_normal() + (3.0 if k in shift_rows else 0.0)
        lines.append(f"{T0 // S + k},{pressure:.5f},{10 + random.standard_normal():.5f}")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_shift_in_a_file_is_one_line_with_onset_end_and_peak(tmp_path):
    path = recording(tmp_path, "a.csv", shift_rows=range(200, 300))
    (found,) = backtest([path]).episodes
    assert (found.tag, found.detector) == ("pressure", "shift")
    assert (found.onset_at, found.detected_at) == (T0 + 200 * S, T0 + 202 * S)
    assert found.cleared_at == T0 + 304 * S
    assert found.rows == 102
    assert 20 < found.peak_z < 60


def test_episode_still_open_at_the_end_has_no_end(tmp_path):
    (found,) = backtest([recording(tmp_path, "a.csv", shift_rows=range(390, 400))]).episodes
    assert found.cleared_at is None


def test_healthy_file_gives_nothing(tmp_path):
    result = backtest([recording(tmp_path, "a.csv")])
    assert result.episodes == []
    assert [f.rows for f in result.files] == [400]


def test_folder_goes_on_after_an_unusable_file_and_says_why(tmp_path):
    recording(tmp_path, "b/good.csv", shift_rows=range(200, 300))
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    result = backtest([tmp_path])
    assert [Path(f.file).name for f in result.files] == ["a.csv", "good.csv"]
    assert "no time column" in result.files[0].error
    assert len(result.episodes) == 1


def test_progress_is_told_and_an_interrupt_keeps_what_was_found(tmp_path):
    for name in ("a.csv", "b.csv", "c.csv"):
        recording(tmp_path, name, shift_rows=range(200, 300))
    told = []

    def progress(done: int, total: int, file: str) -> None:
        told.append((done, total, Path(file).name))
        if done == 2:
            raise KeyboardInterrupt

    result = backtest([tmp_path], on_progress=progress)
    assert told == [(0, 3, "a.csv"), (1, 3, "b.csv"), (2, 3, "c.csv")]
    assert (result.interrupted, len(result.files), len(result.episodes)) == (True, 2, 2)


def test_only_the_chosen_detectors_run(tmp_path):
    path = recording(tmp_path, "a.csv", shift_rows=range(200, 300))
    assert backtest([path], config=DetectorConfig(detectors=("quality", "stale"))).episodes == []


def test_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="no file that ends in"):
        backtest([tmp_path])


def test_acceptance_proves_the_log_of_a_recording_and_claims_no_speed(tmp_path, capsys):
    """Was: `(0x)` for a recording whose ticks are minutes apart, since pauses do not count as plant time."""
    recording(tmp_path, "skab/a.csv", shift_rows=range(200, 300))
    assert acceptance.main([str(tmp_path)]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert re.search(r"1 episodes, 1 incidents; log of \d+ facts verifies, \d+ .* replay the same in [\d.]+ s$", first)
    assert json.loads(last) == {"files": 1, "failed": 0, "scorers_agree": None}
