"""The suite over a recording, row by row: causal, the same for any history of reading, and the rows of the file."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipelines.detectors.config import DetectorConfig
from pipelines.protocols.layout import SKAB_FIT_ROWS, read_nab, read_skab, read_tep
from pipelines.protocols.predicting import Predictions, learn, predict, predict_from
from pipelines.protocols.predictions import table, write
from pipelines.protocols.running import run
from pipelines.protocols.series import Series
from schemas.errors import RecordingError
from tests.support.published import END, ONSET, ROWS, nab_file, skab_file, tep_files

CUTS = np.random.default_rng(5).integers(1, ROWS, 6).tolist()


def same(one: Predictions, other: Predictions) -> bool:
    return all(np.array_equal(a, b) for a, b in ((one.pred, other.pred), (one.cp, other.cp), (one.score, other.score)))


def first(predictions: Predictions, rows: int) -> Predictions:
    p = predictions
    return Predictions(p.key, p.pred[:rows], p.cp[:rows], p.score[:rows])


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Series:
    folder = tmp_path_factory.mktemp("set")
    return read_skab(folder, skab_file(folder))


def test_an_alarm_is_on_from_the_row_that_opened_it_until_the_row_that_cleared_it(series):
    predicted = predict(series, SKAB_FIT_ROWS)
    # Three rows beyond open it, five within clear it: alarmed is what was known when each row had arrived.
    assert np.flatnonzero(predicted.pred).tolist() == list(range(ONSET + 2, END + 4))
    assert np.flatnonzero(predicted.cp).tolist() == [ONSET + 2, END + 4]
    (raised,) = predicted.raised
    assert (raised.tag, raised.detector, raised.from_row, raised.until_row) == ("Pressure", "shift", ONSET + 2, END + 4)


def test_the_score_orders_rows_by_how_far_they_are_from_normal(series):
    score = predict(series, SKAB_FIT_ROWS).score
    assert (score[: SKAB_FIT_ROWS - 1] == 0).all()
    assert score[ONSET:END].min() > 0.8 > 0.5 > score[SKAB_FIT_ROWS:ONSET].max() > 0
    assert score.max() < 1


@pytest.mark.parametrize("rows", CUTS)
def test_what_comes_later_changes_no_prediction(series, rows):
    assert same(predict(series.until(rows), SKAB_FIT_ROWS), first(predict(series, SKAB_FIT_ROWS), rows))


def test_the_test_of_causality_would_see_a_look_ahead(series):
    whole = predict(series, SKAB_FIT_ROWS)
    ahead = Predictions(whole.key, np.roll(whole.pred, -1), whole.cp, whole.score)
    rows = ONSET + 2
    assert not same(predict(series.until(rows), SKAB_FIT_ROWS), first(ahead, rows))


@pytest.mark.parametrize("rows", [170, 201])
def test_what_comes_later_changes_no_prediction_of_tep_and_nab(tmp_path, rows):
    tep_files(tmp_path)
    learnt = learn(read_tep(tmp_path, tmp_path / "tep" / "d00.parquet"))
    fault = read_tep(tmp_path, tmp_path / "tep" / "d01_te.parquet")
    assert same(predict_from(learnt, fault.until(rows)), first(predict_from(learnt, fault), rows))
    series = read_nab(tmp_path, nab_file(tmp_path), None)
    assert same(predict(series.until(rows), 60), first(predict(series, 60), rows))


def test_one_test_of_tep_teaches_the_next_one_nothing(tmp_path):
    tep_files(tmp_path)
    learnt = learn(read_tep(tmp_path, tmp_path / "tep" / "d00.parquet"))
    fault, normal = (read_tep(tmp_path, tmp_path / "tep" / f"{name}.parquet") for name in ("d01_te", "d00_te"))
    alone = predict_from(learnt, normal)
    predict_from(learnt, fault)
    assert same(predict_from(learnt, normal), alone)
    assert predict_from(learnt, fault).pred[163:].all()
    assert not alone.pred.any()


def test_gaps_and_rows_without_a_number_are_rows_too(series):
    values, seconds = series.values.copy(), series.seconds.copy()
    values[100], values[450:453, 0] = np.nan, np.nan
    seconds[430:] += 3600
    odd = Series(series.key, series.file, seconds, values, series.columns)
    predicted = predict(odd, SKAB_FIT_ROWS)
    assert len(predicted) == ROWS
    # A value that is no number is not believed: far from normal, and an episode after three of them.
    assert (predicted.score[450:453] == 1).all()
    assert predicted.pred[452]
    assert not predicted.pred[454:ONSET].all()


def test_a_value_far_outside_of_what_was_learnt_scores_highest_of_all(series):
    values = series.values.copy()
    values[450, 0] = 1e9
    predicted = predict(Series(series.key, series.file, series.seconds, values, series.columns), SKAB_FIT_ROWS)
    assert predicted.score.argmax() == 450


def test_a_column_named_as_our_counter_is_a_tag_like_any_other(series):
    odd = Series(series.key, series.file, series.seconds, series.values, ("row number", "Volume Flow"))
    assert predict(odd, SKAB_FIT_ROWS).raised[0].tag == "row number"


def test_only_the_chosen_detectors_are_asked(series):
    predicted = predict(series, SKAB_FIT_ROWS, DetectorConfig(detectors=("quality", "stale")))
    assert not predicted.pred.any()


def test_the_table_has_a_line_for_each_row_of_each_file(tmp_path):
    skab_file(tmp_path)
    skab_file(tmp_path, "valve1/1", seed=1)
    (ran,) = run(tmp_path, ["skab"])
    out = tmp_path / "out.parquet"
    write([each.predictions for each in ran.judged], out)
    read = pl.read_parquet(out)
    assert read.columns == ["file", "row", "pred", "cp", "score"]
    assert read["file"].unique(maintain_order=True).to_list() == ["skab/valve1/0", "skab/valve1/1"]
    assert read.filter(pl.col("file") == "skab/valve1/1")["row"].to_list() == list(range(ROWS))
    assert set(read["pred"].unique()) == {0, 1}


def test_a_table_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    out.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("connectors.eventlog.files.write_all", full)
    with pytest.raises(RecordingError, match="cannot be written: no space left"):
        write([], out)
    assert out.read_text() == "before"
    assert table([]).columns == ["file", "row", "pred", "cp", "score"]


@pytest.mark.parametrize(("name", "said"), [("out.txt", "unknown kind of file"), ("no/out.csv", "no such folder")])
def test_a_place_where_no_table_can_be_is_refused_before_any_work(tmp_path, name, said):
    with pytest.raises(RecordingError, match=said):
        write([], tmp_path / name)


def test_an_interrupt_keeps_the_files_that_are_done(tmp_path):
    for name in ("valve1/0", "valve1/1", "valve1/2"):
        skab_file(tmp_path, name)
    nab_file(tmp_path)

    def progress(done: int, total: int, file: str) -> None:
        assert total == 4
        if done == 2:
            raise KeyboardInterrupt

    (ran,) = run(tmp_path, ["skab", "nab"], on_progress=progress)
    assert (ran.interrupted, len(ran.judged), ran.files) == (True, 2, 3)
    assert ran.lines()[0].figures["segments"] == 2
