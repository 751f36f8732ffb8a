"""Recordings: what is read, what is refused with which words, and what comes out as input."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from connectors.recordings.play import play
from connectors.recordings.sniff import sniff
from connectors.recordings.table import read
from schemas.errors import RecordingError
from schemas.recording import RecordedColumn, RecordingMapping
from schemas.samples import Gap, SampleBatch, Tick, is_good

T0 = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
S = 1_000_000
MAPPING = RecordingMapping(
    time_column="time",
    columns=(RecordedColumn(column="Torque", tag="torque"), RecordedColumn(column="Flow", tag="flow", factor=10.0)),
    ignore=("label",),
)


def csv(folder: Path, *lines: str, header: str = "time,Torque,Flow,label", name: str = "run.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def second(k: float) -> str:
    return datetime.fromtimestamp(T0 / 1e6 + k, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def healthy(folder: Path, n: int = 50, name: str = "run.csv") -> Path:
    return csv(folder, *(f"{second(k)},{k % 7}.5,{k % 5}.25,0" for k in range(n)), name=name)


def test_values_are_in_the_tags_unit_and_times_in_utc(tmp_path):
    recording = read(csv(tmp_path, f"{second(0)},1.5,2.5,0", f"{second(1)},3,4,1"), MAPPING)
    assert recording.at.tolist() == [T0, T0 + S]
    assert recording.values.tolist() == [[1.5, 25.0], [3.0, 40.0]]


def test_gzip_and_parquet_give_what_the_csv_gives(tmp_path):
    path = healthy(tmp_path)
    zipped = tmp_path / "run.csv.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    parquet = tmp_path / "run.parquet"
    pl.read_csv(path, try_parse_dates=True).write_parquet(parquet)
    expected = read(path, MAPPING)
    for other in (zipped, parquet):
        got = read(other, MAPPING)
        assert got.at.tolist() == expected.at.tolist()
        assert got.values.tolist() == expected.values.tolist()


@pytest.mark.parametrize(
    ("cell", "fields", "expected_us"),
    [
        ("2026-03-01 13:00:00", {"time_zone": "Europe/Berlin"}, T0),
        ("2026-03-01T13:00:00+01:00", {}, T0),
        ("2026-03-01T12:00:00.000001Z", {}, T0 + 1),
        ("01.03.2026 12:00:00", {"time_format": "%d.%m.%Y %H:%M:%S"}, T0),
        (f"{T0 / 1e6}", {"time_kind": "s"}, T0),
        (f"{T0 // 1000}", {"time_kind": "ms"}, T0),
        (f"{T0}", {"time_kind": "us"}, T0),
    ],
)
def test_times_of_every_kind(tmp_path, cell, fields, expected_us):
    path = csv(tmp_path, f"{cell},1,2,0")
    assert read(path, MAPPING.model_copy(update=fields)).at.tolist() == [expected_us]


def test_cells_without_a_number_are_counted_and_become_bad_samples(tmp_path):
    path = csv(tmp_path, f"{second(0)},1,2,0", f"{second(1)},,2,0", f"{second(2)},n/a,NaN,0")
    assert read(path, MAPPING).not_numbers == {"Torque": 2, "Flow": 1}
    sniffed = sniff(path)
    samples = [m for m in play(path, sniffed.mapping, sniffed.cell) if isinstance(m, SampleBatch)]
    assert sum(len(batch) for batch in samples) == 6
    assert np.concatenate([is_good(batch.status) for batch in samples]).tolist() == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("lines", "fields", "message"),
    [
        ([f"{second(0)},1,2,0", "yesterday,1,2,0"], {}, r"row 2: 'yesterday' is not a time"),
        ([f"{second(0)},1,2,0", ",1,2,0"], {}, r"row 2: None is not a time"),
        ([f"{second(0)},1,2,0"], {"time_kind": "s"}, r"row 1: .* is not a time \(a number in s"),
        ([f"{second(0)},1,2,0"], {"time_zone": "Mars/Olympus"}, r"unknown time zone 'Mars/Olympus'.*IANA"),
        ([f"{second(0)},1,2,0"], {"time_column": "when"}, r"column 'when': there is no time column"),
        ([f"{second(0)},1,2,0"], {"ignore": ()}, r"column 'label': neither mapped to a tag nor ignored"),
        ([f"{second(0)},1,2,0"], {"separator": ";"}, r"there is no time column of this name"),
        (
            [f"{second(k)},1,2,0" for k in (0, 3, 1, 2, 4)],
            {},
            r"2 rows are earlier than one before them, the first is row 3\..*out_of_order",
        ),
        ([f"{second(k)},1,2,0" for k in (0, 1, 1, 2)], {}, r"1 rows repeat .* first is row 3\..*duplicates"),
        ([], {}, r"a header and no rows"),
    ],
)
def test_refused_with_file_place_and_remedy(tmp_path, lines, fields, message):
    path = csv(tmp_path, *lines)
    with pytest.raises(RecordingError, match=message) as refused:
        read(path, MAPPING.model_copy(update=fields))
    assert refused.value.file == str(path)
    assert refused.value.remedy


def test_unmapped_column_of_the_file_is_named(tmp_path):
    columns = (*MAPPING.columns, RecordedColumn(column="Speed", tag="speed"))
    with pytest.raises(RecordingError, match=r"column 'Speed': mapped to 'speed' but not among"):
        read(healthy(tmp_path), MAPPING.model_copy(update={"columns": columns}))


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.csv", b""), ("x.csv.gz", b"no gzip"), ("x.parquet", b"no parquet"), ("x.txt", b"time,a\n1,2\n")],
)
def test_unreadable_file_is_an_error_of_its_own(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=name):
        read(tmp_path / name, MAPPING)
    with pytest.raises(RecordingError, match=name):
        sniff(tmp_path / name)


def test_missing_file_is_an_error_of_its_own(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere.csv"):
        sniff(tmp_path / "nowhere.csv")


def test_out_of_order_rows_can_be_sorted_and_duplicates_let_the_last_stand(tmp_path):
    path = csv(tmp_path, f"{second(1)},1,1,0", f"{second(0)},2,2,0", f"{second(1)},3,3,0")
    recording = read(path, MAPPING.model_copy(update={"out_of_order": "sort", "duplicates": "last"}))
    assert recording.values[:, 0].tolist() == [2.0, 3.0]
    assert (recording.sorted_n, recording.dropped_n) == (1, 1)


def test_input_begins_and_ends_with_a_tick_and_tells_gaps_in_order(tmp_path):
    path = csv(tmp_path, *(f"{second(k)},1,2,0" for k in (0, 1, 2, 60, 61)))
    sniffed = sniff(path)
    messages = list(play(path, sniffed.mapping, sniffed.cell))
    assert [type(m).__name__ for m in messages] == ["Tick", "SampleBatch", "Tick", "Gap", "SampleBatch", "Tick", "Tick"]
    (gap,) = [m for m in messages if isinstance(m, Gap)]
    assert (gap.from_at, gap.until_at) == (T0 + 2 * S, T0 + 60 * S)
    assert [m.seq for m in messages] == list(range(len(messages)))
    assert [m.complete_until for m in messages if isinstance(m, Tick)][:2] == [T0 - 1, T0 + 2 * S]


def test_unknown_file_is_sniffed_separator_time_labels_and_period(tmp_path):
    lines = [f"{second(2 * k)};{k}.5;{k}.25;0.0;a" for k in range(20)]
    path = csv(tmp_path, *lines, header="datetime;Volume Flow RateRMS;2nd;anomaly;remark")
    sniffed = sniff(path)
    assert sniffed.mapping.separator == ";"
    assert [c.tag for c in sniffed.mapping.columns] == ["volume_flow_raterms", "c_2nd"]
    assert sniffed.mapping.ignore == ("anomaly", "remark")
    assert sniffed.cell.groups[0].period_s == 2.0


@pytest.mark.parametrize("kind", ["s", "ms", "us"])
def test_epoch_unit_is_sniffed_by_size(tmp_path, kind):
    unit = {"s": S, "ms": 1000, "us": 1}[kind]
    path = csv(tmp_path, *(f"{T0 // unit + k * S // unit},{k}" for k in range(5)), header="ts,a")
    assert sniff(path).mapping.time_kind == kind


def test_file_without_a_time_or_a_number_is_refused(tmp_path):
    with pytest.raises(RecordingError, match=r"no time column among a, b.*time_column"):
        sniff(csv(tmp_path, "1,2", header="a,b"))
    with pytest.raises(RecordingError, match="no column holds numbers"):
        sniff(csv(tmp_path, f"{second(0)},x", header="time,b"))


def test_mapped_tag_that_the_cell_does_not_have_is_named(tmp_path):
    path = healthy(tmp_path)
    columns = (RecordedColumn(column="Torque", tag="torque_nm"),)
    with pytest.raises(RecordingError, match="the cell has no tag 'torque_nm'"):
        play(path, MAPPING.model_copy(update={"columns": columns}), sniff(path).cell)


def test_mapping_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="mapped twice"):
        RecordingMapping(time_column="t", columns=(RecordedColumn(column="a", tag="x"),) * 2)
    with pytest.raises(ValueError, match="decide for one"):
        RecordingMapping(time_column="a", columns=(RecordedColumn(column="a", tag="x"),))
