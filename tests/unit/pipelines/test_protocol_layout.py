"""The folders of the published sets: what is read, and what is refused with file, field and remedy."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest

from pipelines.protocols.layout import files_of, key_of, protocols_in, read_nab, read_skab, read_tep, read_windows
from pipelines.protocols.running import run
from schemas.errors import RecordingError
from tests.support.published import END, ONSET, ROWS, nab_file, skab_file, tep_files


def test_a_file_of_skab_has_its_rows_tags_and_labels(tmp_path):
    series = read_skab(tmp_path, skab_file(tmp_path))
    assert (series.key, len(series), series.columns) == ("skab/valve1/0", ROWS, ("Pressure", "Volume Flow"))
    assert np.flatnonzero(series.anomaly).tolist() == list(range(ONSET, END))
    assert np.flatnonzero(series.change).tolist() == [ONSET, END]
    assert np.diff(series.seconds).tolist() == [1.0] * (ROWS - 1)


def test_a_file_without_labels_is_read_and_says_nothing(tmp_path):
    series = read_skab(tmp_path, skab_file(tmp_path, labels=False))
    assert (series.anomaly, series.change, series.labelled) == (None, None, False)
    assert not series.label.any()


def test_a_test_of_tep_is_faulty_from_row_160_on_but_for_d00(tmp_path):
    tep_files(tmp_path)
    faulty = read_tep(tmp_path, tmp_path / "tep" / "d01_te.parquet")
    normal = read_tep(tmp_path, tmp_path / "tep" / "d00_te.parquet")
    assert np.flatnonzero(faulty.label).tolist() == list(range(160, 220))
    assert normal.labelled
    assert not normal.label.any()
    assert np.diff(faulty.seconds).tolist() == [180.0] * 219


def test_windows_of_nab_become_rows(tmp_path):
    series = read_nab(tmp_path, nab_file(tmp_path), read_windows(tmp_path))
    assert series.windows == ((295, 315),)
    assert np.flatnonzero(series.label).tolist() == list(range(295, 316))


def test_windows_may_lie_where_nab_itself_has_them_or_nowhere(tmp_path):
    path = nab_file(tmp_path)
    (tmp_path / "nab" / "labels").mkdir()
    (tmp_path / "nab" / "combined_windows.json").rename(tmp_path / "nab" / "labels" / "combined_windows.json")
    assert read_nab(tmp_path, path, read_windows(tmp_path)).windows == ((295, 315),)
    (tmp_path / "nab" / "labels" / "combined_windows.json").unlink()
    assert read_windows(tmp_path) is None
    assert read_nab(tmp_path, path, None).windows is None


def test_times_that_repeat_or_go_back_keep_their_rows_and_look_at_nothing_later(tmp_path):
    path = tmp_path / "nab" / "a" / "b.csv"
    path.parent.mkdir(parents=True)
    times = ["00:00:00", "00:05:00", "00:05:00", "00:04:00", "00:10:00"]
    path.write_text("timestamp,value\n" + "".join(f"2014-01-01 {time},{k}\n" for k, time in enumerate(times)))
    series = read_nab(tmp_path, path, None)
    begin = int(series.at[0])
    assert (series.at - begin).tolist() == [0, 300_000_000, 300_000_001, 300_000_002, 600_000_000]
    assert (series.until(3).at == series.at[:3]).all()


def test_links_to_folders_are_followed_and_files_come_by_name(tmp_path):
    skab_file(tmp_path / "elsewhere", "valve1/1")
    skab_file(tmp_path / "elsewhere", "valve1/0")
    (tmp_path / "set" / "skab").mkdir(parents=True)
    (tmp_path / "set" / "skab" / "valve1").symlink_to(tmp_path / "elsewhere" / "skab" / "valve1")
    keys = [key_of(tmp_path / "set", path) for path in files_of(tmp_path / "set", "skab")]
    assert keys == ["skab/valve1/0", "skab/valve1/1"]


def test_a_folder_with_none_of_the_sets_is_refused(tmp_path):
    with pytest.raises(RecordingError, match=r"layout: there is no folder skab, tep, nab in it\. Name the folder that"):
        protocols_in(tmp_path, ("skab", "tep", "nab"))


def test_of_all_protocols_those_that_are_there_run(tmp_path):
    nab_file(tmp_path)
    assert protocols_in(tmp_path, ("skab", "tep", "nab")) == ["nab"]


def test_an_empty_set_is_refused(tmp_path):
    (tmp_path / "skab").mkdir()
    with pytest.raises(RecordingError, match=r"skab: folder: no file that ends in"):
        files_of(tmp_path, "skab")


def test_tep_without_the_recording_to_learn_from_is_refused(tmp_path):
    (tep_files(tmp_path) / "d00.parquet").unlink()
    with pytest.raises(RecordingError, match=r"tep: d00: the recording to learn from is missing\. Put the 500"):
        run(tmp_path, ["tep"])


def rewritten(tmp_path, old: str, new: str):
    path = skab_file(tmp_path)
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text.replace(old, new, 1).encode()))
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("datetime;", "when;", r"0\.csv\.gz: columns: no time column among when"),
        ("2026-03-01 12:00:03", "", r"column 'datetime', row 4: .* is not a time .*Correct the cell"),
        (";0.0;0.0\n", ";maybe;0.0\n", r"column 'anomaly', row 1: 'maybe' is no label\. Write 0 or 1"),
        ("Pressure", "Volume Flow", r"0\.csv\.gz: "),
    ],
)
def test_a_file_of_skab_that_is_wrong_is_refused_by_name_place_and_remedy(tmp_path, old, new, said):
    path = rewritten(tmp_path, old, new)
    if new == "Volume Flow":
        path.write_bytes(gzip.compress(b"datetime;a\n2026-03-01 12:00:00;x\n"))
    with pytest.raises(RecordingError, match=said):
        read_skab(tmp_path, path)


def test_tep_with_other_columns_than_it_learnt_from_is_told_and_the_others_go_on(tmp_path):
    folder = tep_files(tmp_path)
    pl.read_parquet(folder / "d03_te.parquet").drop("XMV_1").write_parquet(folder / "d03_te.parquet")
    (ran,) = run(tmp_path, ["tep"])
    assert [each.series.key for each in ran.judged] == ["tep/d00_te", "tep/d01_te"]
    assert "d03_te.parquet: column 'XMV_1': differs from those of d00. All files" in ran.errors[0]


def test_a_test_of_tep_that_ends_before_the_fault_is_refused(tmp_path):
    path = tep_files(tmp_path, rows=160) / "d01_te.parquet"
    with pytest.raises(RecordingError, match=r"d01_te\.parquet: rows: 160 rows, and the fault begins at row 160"):
        read_tep(tmp_path, path)


def test_a_file_of_skab_shorter_than_the_rows_to_learn_from_has_nothing_to_score(tmp_path):
    path = skab_file(tmp_path)
    text = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress("\n".join(text[:301]).encode()))
    (ran,) = run(tmp_path, ["skab"])
    assert [line.figures["rows"] for line in ran.lines()] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([["2026-03-01 12:00:01", "2026-03-01 12:05:00"]], r"window at '2026-03-01 12:00:01': no row of the file"),
        ([["soon", "2026-03-01 12:05:00"]], r"window at 'soon': it is no time"),
        ([["2026-03-01 12:05:00"]], r"windows: .* is not a begin and an end"),
    ],
)
def test_windows_that_do_not_belong_to_the_file_are_refused(tmp_path, windows, said):
    path = nab_file(tmp_path)
    with pytest.raises(RecordingError, match=said):
        read_nab(tmp_path, path, {"realKnownCause/one.csv": windows})


def test_a_file_of_windows_that_is_none_is_refused(tmp_path):
    nab_file(tmp_path)
    (tmp_path / "nab" / "combined_windows.json").write_text(json.dumps({"a.csv": "never"}))
    with pytest.raises(RecordingError, match=r"combined_windows.json: windows: .*Write it as"):
        read_windows(tmp_path)
