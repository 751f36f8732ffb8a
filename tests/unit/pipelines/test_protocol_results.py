"""What `jidoka backtest` prints and writes of published protocols, and how another scorer is held against it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.protocols import plots
from pipelines.protocols.agreement import NAB, SKAB, ScorerFault, compare, others
from pipelines.protocols.layout import read_skab
from pipelines.protocols.marks import Judged
from pipelines.protocols.predicting import predict
from pipelines.protocols.report import page, report_target
from pipelines.protocols.results import document, text
from pipelines.protocols.running import Ran, run
from schemas.errors import RecordingError
from tests.support.published import END, nab_file, skab_file, tep_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    skab_file(folder)
    skab_file(folder, "other/1", seed=1, shift=0.2)
    skab_file(folder, "anomaly-free/anomaly-free", seed=2, labels=False, shift=3.0)
    tep_files(folder)
    nab_file(folder)
    return folder


@pytest.fixture(scope="module")
def results(folder) -> list[Ran]:
    return run(folder, ["skab", "tep", "nab"])


def figures(results: list[Ran], protocol: str, who: str = "jidoka", part: str = "all") -> dict:
    ran = next(ran for ran in results if ran.protocol == protocol)
    return next(line.figures for line in ran.lines() if (line.who, line.part) == (who, part))


def test_files_are_pooled_into_one_table_and_groups_stand_apart(results):
    """The first file is alarmed in rows 502..603, of 500..599; the second one's fault is too small."""
    pooled = figures(results, "skab")
    assert (pooled["tp"], pooled["fp"], pooled["fn"], pooled["tn"]) == (98, 4, 102, 396)
    assert (pooled["segments"], pooled["segment_recall"], pooled["delay_median_s"]) == (2, 0.5, 2.0)
    assert pooled["cp_missed"] == 2
    assert figures(results, "skab", part="valve1")["fn"] == 2
    assert figures(results, "skab", part="other")["tp"] == 0


def test_the_run_without_labels_counts_as_normal_and_stays_out_of_the_pool(results):
    free = figures(results, "skab", part="anomaly-free")
    assert (free["rows"], free["false_episodes"]) == (300, 1)
    assert figures(results, "skab")["rows"] == 600


def test_beside_the_detectors_stand_those_who_do_not_look(results):
    assert figures(results, "skab", "always alarm")["f1"] == pytest.approx(2 * 200 / (2 * 200 + 400))
    assert figures(results, "skab", "always alarm")["mcc"] == 0
    assert figures(results, "skab", "never")["mar_pct"] == 100
    assert figures(results, "skab", "the clock")["tp"] == 2 * (END - 570)
    assert figures(results, "tep", "always alarm")["far_pct"] == 100
    assert figures(results, "tep", "never")["missed_pct"] == 100
    assert figures(results, "nab", "one score for all rows")["standard"] == 0


def test_tep_tells_its_faults_one_by_one_and_3_9_15_apart(results):
    overall = figures(results, "tep")
    assert overall["missed_pct"] == pytest.approx(100 * 2 / 60)
    assert overall["missed_3_9_15_pct"] == 100
    assert figures(results, "tep", part="d01") == {
        "missed_pct": pytest.approx(100 * 2 / 60), "delay_rows": 2, "false_before_rows": 0,
    }  # fmt: skip


def test_nab_scores_the_spike_in_its_window(results):
    assert 80 < figures(results, "nab")["standard"] < 100
    assert figures(results, "nab")["windows"] == 1


def test_the_tables_say_what_to_beware_of_and_what_was_left_out(results):
    said = text(results)
    for words in ("always alarm", "the clock", "F1 says little", "3, 9 and 15", "0 is silence"):
        assert words in said
    assert "skab: predicted but not scored, for want of labels: 1 files (skab/anomaly-free/anomaly-free)" in said
    assert max(len(line) for line in said.splitlines()) <= 140


def test_the_document_holds_unrounded_figures(results):
    written = json.loads(json.dumps(document(results)))
    assert written["skab"]["lines"][0]["f1"] == figures(results, "skab")["f1"]
    assert written["tep"]["files"] == ["tep/d00_te", "tep/d01_te", "tep/d03_te"]


# ---------------------------------------------------------------------- the page


class Outline(HTMLParser):
    """Collects elements; an element that is closed wrongly shows."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(tag)


def test_the_page_is_whole_and_takes_nothing_from_elsewhere(results):
    outline = Outline()
    outline.feed(written := page(results))
    assert (outline.wrong, outline.open) == ([], [])
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.seen)
    assert not [value for name, value in outline.attributes if name in ("src", "href", "srcset")]
    assert not re.search(r"https?://|@import|url\(", written)
    assert outline.seen.count("details") == 7


def test_names_from_files_are_escaped(results, folder):
    series = read_skab(folder, folder / "skab" / "valve1" / "0.csv.gz")
    odd = type(series)("skab/<b>", "x", series.seconds, series.values, ("<script>", "b"), series.anomaly)
    written = page([Ran("skab", 1, [Judged(odd, predict(odd, 400))])])
    assert "<script>" not in written
    assert "&lt;script&gt;" in written


def test_a_drawing_shows_alarm_and_label_where_they_are(results):
    judged = next(each for each in results[0].judged if each.series.key == "skab/valve1/0")
    drawn = plots.recording(judged, 400)
    (x, width) = re.search(r'class="strip-alarm" x="([\d.]+)" y="\d+" width="([\d.]+)"', drawn).groups()
    per_row = plots.PLOT_PX / 700
    assert float(x) == pytest.approx(plots.NAME_PX + 502 * per_row, abs=0.06)
    assert float(width) == pytest.approx(102 * per_row, abs=0.06)
    assert len(re.findall(r'class="change"', drawn)) == len(re.findall(r'class="claim"', drawn)) == 2
    assert drawn.count("<polyline") == 3


def test_the_peak_of_a_single_row_is_drawn(results):
    judged = next(each for each in results[2].judged)
    heights = [float(y) for y in re.findall(r"[\d.]+,([\d.]+)", plots.recording(judged, 60))]
    assert judged.series.values.argmax() == 300
    assert len(heights) > 700
    assert np.isfinite(heights).all()


def test_tags_that_raised_an_alarm_are_drawn_first(results):
    judged = next(each for each in results[1].judged if each.series.key == "tep/d01_te")
    assert plots.tags_drawn(judged)[0] == judged.series.columns.index("XMEAS_2")


# ---------------------------------------------------------------------- another scorer


def theirs(results: list[Ran]) -> dict:
    """What a scorer would say that agrees."""
    skab, tep, nab = (figures(results, name) for name in ("skab", "tep", "nab"))
    faults = {part: figures(results, "tep", part=part) for part in ("d01", "d03")}
    return {
        "skab": {their: skab[our] for our, their in SKAB.items()},
        "tep": {
            "FAR": tep["far_pct"], "MDR_all": tep["missed_all_pct"] / 100, "MDR_no_3_9_15": tep["missed_pct"] / 100,
            "detected": tep["detected"],
            "faults": {n: {"MDR": f["missed_pct"] / 100, "delay_samples": f["delay_rows"]} for n, f in faults.items()},
        },
        "nab": {their: {"score": nab[our], "threshold": nab[f"{our}_threshold"]} for our, their in NAB.items()}
        | {"windows": 1},
    }  # fmt: skip


def test_a_scorer_that_says_the_same_agrees_in_every_figure(results):
    assert compare(results, theirs(results)) == (len(SKAB) + 8 + 7, [])


def test_a_figure_that_differs_is_named(results):
    other = theirs(results)
    other["skab"]["MCC"] += 1e-6
    other["tep"]["faults"]["d01"]["delay_samples"] = None
    _, differing = compare(results, other)
    assert [each.split(":")[0] for each in differing] == ["skab all mcc", "tep d01 delay_rows"]


def test_another_scorer_is_given_the_table_and_asked_for_json(results, folder, tmp_path):
    scorer = tmp_path / "scorer.py"
    scorer.write_text(
        "import sys, json\ntable, _, data, _, out = sys.argv[1:]\njson.dump([table, data], open(out, 'w'))"
    )
    table, data = others(scorer, folder, results, tmp_path)
    assert data == str(folder)
    assert pl.read_parquet(table)["file"].n_unique() == 7


def test_a_scorer_that_fails_is_told_in_its_own_words(results, folder, tmp_path):
    scorer = tmp_path / "scorer.py"
    scorer.write_text("raise SystemExit('no windows here')")
    with pytest.raises(ScorerFault, match="no windows here"):
        others(scorer, folder, results, tmp_path)


# ---------------------------------------------------------------------- the command


def backtest(*words: object):
    return CliRunner().invoke(app, ["backtest", *map(str, words)])


def test_the_command_prints_figures_and_writes_table_and_page(folder, tmp_path):
    said = backtest(folder, "--protocol", "all", "--predictions", tmp_path / "p.parquet", "--report", tmp_path / "r")
    assert said.exit_code == 0
    assert "SKAB, row by row" in said.stdout
    assert pl.read_parquet(tmp_path / "p.parquet").height == 3 * 700 + 3 * 220 + 400
    assert (tmp_path / "r" / "report.html").read_text().startswith("<!doctype html>")


def test_predictions_alone_mean_all_sets_that_are_there_and_json_is_nothing_else(folder, tmp_path):
    said = backtest(folder, "--predictions", tmp_path / "p.csv", "--json")
    assert set(json.loads(said.stdout)) == {"skab", "tep", "nab"}
    assert (tmp_path / "p.csv").read_text().startswith("file,row,pred,cp,score\n")


def test_one_protocol_runs_alone(folder):
    said = backtest(folder, "--protocol", "tep")
    assert "TEP, all faults" in said.stdout
    assert "SKAB" not in said.stdout


def test_a_file_that_cannot_be_used_makes_the_command_fail_and_is_named(tmp_path):
    skab_file(tmp_path)
    (tmp_path / "skab" / "valve1" / "9.csv").write_text("a;b\n1;2\n")
    said = backtest(tmp_path, "--protocol", "skab", "--predictions", tmp_path / "p.csv")
    assert said.exit_code == 1
    assert re.search(r"not used: .*9\.csv: columns: no time column among a, b", said.stdout)
    assert pl.read_csv(tmp_path / "p.csv")["file"].unique().to_list() == ["skab/valve1/0"]


def test_an_interrupt_writes_what_is_done_and_says_that_nothing_resumes_it(folder, tmp_path, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.protocols.running._tep", lambda *_: iter([("x", stopped)]))
    said = backtest(folder, "--protocol", "all", "--predictions", tmp_path / "p.csv")
    assert said.exit_code == 1
    assert "tep: stopped after 0 of 1 files; all figures are of those. Nothing resumes it" in said.stdout
    assert pl.read_csv(tmp_path / "p.csv")["file"].n_unique() == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--protocol", "skab", "--warm-up", "3"], "--warm-up: option: it does not go with a protocol"),
        (["--protocol", "skab", "--record", "log"], "--record: option: it does not go with a protocol"),
        (["another", "--protocol", "skab"], "path: a protocol takes one folder"),
    ],
)
def test_what_makes_no_sense_with_a_protocol_is_refused(folder, words, problem):
    assert problem in str(backtest(folder, *words).exception)


def test_places_of_the_page(tmp_path):
    assert report_target(tmp_path / "x.html") == tmp_path / "x.html"
    assert report_target(tmp_path / "new") == tmp_path / "new" / "report.html"
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(RecordingError, match="a file and no HTML page"):
        report_target(tmp_path / "file.txt")
    with pytest.raises(RecordingError, match="no such folder"):
        report_target(tmp_path / "no" / "x.html")
