"""Measures of the published protocols, against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.protocols import windows
from pipelines.protocols.changes import Changes, changes
from pipelines.protocols.faults import Fault, Faults
from pipelines.protocols.points import Confusion
from pipelines.protocols.segments import Segments, runs, segments


def mask(text: str) -> np.ndarray:
    return np.array([letter == "#" for letter in text])


def test_rows_are_counted_one_by_one():
    points = Confusion.of(mask("..####...."), mask(".###....#."))
    assert points == Confusion(tp=2, fp=2, fn=2, tn=4)
    assert points.f1 == 4 / 8
    assert points.far_pct == pytest.approx(100 * 2 / 6)
    assert points.mar_pct == pytest.approx(50.0)
    assert points.mcc == pytest.approx((2 * 4 - 2 * 2) / math.sqrt(4 * 4 * 6 * 6))


def test_always_alarm_has_a_fine_f1_and_no_correlation():
    points = Confusion.of(mask("....######"), mask("##########"))
    assert (points.f1, points.far_pct, points.mar_pct, points.mcc) == (0.75, 100.0, 0.0, 0.0)


def test_never_alarm_has_nothing():
    points = Confusion.of(mask("....######"), mask(".........."))
    assert (points.f1, points.far_pct, points.mar_pct, points.mcc, points.precision) == (0.0, 0.0, 100.0, 0.0, 0.0)


@pytest.mark.parametrize(("text", "found"), [("", []), ("...", []), ("#", [(0, 1)]), ("##.#", [(0, 2), (3, 4)])])
def test_runs_of_rows_are_found_at_both_edges(text, found):
    assert runs(mask(text).astype(bool)) == found


def test_segments_alarms_and_delays_of_a_file():
    seconds = np.arange(20) * 2.0
    found = segments(mask("..####....####..##.."), mask("...#...#..##....#..#"), seconds)
    #                     found after one row; found at once; found at once; false: row 7 and row 19
    assert found.delays_s == (2.0, 0.0, 0.0)
    assert (found.missed, found.before_onset, found.false_episodes) == (0, 0, 2)
    assert found.normal_h == pytest.approx(10 * 2.0 / 3600)
    assert (found.recall, found.delay_median_s, found.delay_mean_s) == (1.0, 0.0, pytest.approx(2 / 3))
    assert found.false_per_h == pytest.approx(2 / (20 / 3600))


def test_an_alarm_that_is_on_before_the_onset_counts_apart_and_is_not_false():
    found = segments(mask("...###"), mask(".#####"), np.arange(6.0))
    assert (found.delays_s, found.before_onset, found.false_episodes) == ((0.0,), 1, 0)


def test_a_segment_without_an_alarm_is_missed_and_has_no_delay():
    found = segments(mask(".##.##"), mask("....##"), np.arange(6.0))
    assert (found.recall, found.delays_s, found.missed) == (0.5, (0.0,), 1)
    assert Segments(missed=1).delay_median_s is None


def test_files_add_up():
    one = segments(mask(".##."), mask("..#."), np.arange(4.0))
    both = one + segments(mask(".##."), mask("#..."), np.arange(4.0))
    assert (both.number, both.recall, both.false_episodes) == (2, 0.5, 1)


SECONDS = np.arange(0.0, 400.0)


def at(*moments: int) -> np.ndarray:
    return np.isin(np.arange(400), moments)


@pytest.mark.parametrize(
    ("claims", "standard", "low_fp", "low_fn"),
    [
        ((), 0.0, 0.0, 0.0),
        ((100,), 100.0, 100.0, 100.0),
        ((99,), -5.5, -11.0, -11 / 3),
        ((100, 300), 94.5, 89.0, 100 - 11 / 3),
        ((100, 101, 102), 100.0, 100.0, 100.0),
        # At the window's end the ramp is down at the weight of a false alarm: (-0.11 + 1) / 2.
        ((160,), 44.5, 39.0, 63.0),
        # Half-way: step 500 of 1,000 lies π/1998 behind the middle, 0.555 * -0.001714 + 0.445 = 0.444049.
        ((130,), 72.2024, 69.4477, 81.4683),
    ],
)
def test_a_claim_scores_by_how_early_it_is_in_the_window(claims, standard, low_fp, low_fn):
    found = changes(at(100), at(*claims), SECONDS)
    scores = [found.score(profile) for profile in ("standard", "low_fp", "low_fn")]
    assert scores == pytest.approx([standard, low_fp, low_fn], abs=1e-4)


def test_windows_that_overlap_are_parted_and_one_claim_can_serve_both_edges():
    found = changes(at(100, 130), at(160), SECONDS)
    assert found.places == (1.0, 0.0)
    assert (found.windows, found.missed, found.false) == (2, 0, 0)


def test_changes_of_files_add_up_and_none_are_no_score():
    found = changes(at(100), at(100), SECONDS) + changes(at(100), at(), SECONDS)
    assert (found.score("standard"), found.missed) == (50.0, 1)
    assert Changes().score("standard") == 0.0


def test_a_fault_is_judged_from_row_160_on():
    alarm = np.zeros(960, dtype=bool)
    alarm[[10, 170, 171]] = True
    fault = Fault.of("d01", alarm)
    assert (fault.missed, fault.delay_rows, fault.false_before) == (pytest.approx(798 / 800), 10, 1)
    assert Fault.of("d02", np.zeros(960, dtype=bool)).delay_rows is None


def test_faults_3_9_and_15_stand_apart_from_the_mean():
    faults = Faults((Fault("d01", 0.1, 5, 8), Fault("d02", 0.3, 7, 0), Fault("d03", 0.95, None, 0)), 960, 12)
    assert faults.missed == pytest.approx(0.2)
    assert (faults.missed_all, faults.missed_hard) == (pytest.approx(0.45), 0.95)
    assert faults.far_pct == pytest.approx(100 * 20 / (960 + 480))
    assert (faults.detected, faults.delay_median_rows) == (2, 6.0)
    assert Faults(()).missed is None


def test_rows_are_worth_less_the_later_they_are():
    worth = windows.worth(100, [(40, 49)])
    assert worth.worth[39] == -1.0
    assert worth.worth[40] == pytest.approx(1.0)
    assert worth.worth[49] == pytest.approx(0.248242, abs=1e-6)
    assert worth.worth[50] == pytest.approx(2 / (1 + math.exp(5 / 9)) - 1)
    assert worth.worth[80] == -1.0
    assert worth.window.tolist() == [-1] * 40 + [0] * 10 + [-1] * 50


def score_of(marks: dict[int, float], profile: str, *, spans=((40, 49),)) -> windows.Best:
    score = np.zeros(100)
    score[list(marks)] = list(marks.values())
    return windows.best([(score, windows.worth(100, list(spans)))], profile)


@pytest.mark.parametrize(
    ("marks", "standard", "low_fp", "low_fn"),
    [
        ({40: 0.9}, 100.0, 100.0, 100.0),
        ({40: 0.9, 80: 0.5}, 100.0, 100.0, 100.0),  # the threshold between them
        ({40: 0.9, 80: 0.9}, 94.5, 89.0, 100 - 11 / 3),  # no threshold between them
        ({40: 0.9, 45: 0.9}, 100.0, 100.0, 100.0),  # in a window the best row counts alone
        ({10: 0.9}, 0.0, 0.0, 0.0),  # on probation
        ({}, 0.0, 0.0, 0.0),
    ],
)
def test_the_best_threshold_of_all_is_taken_for_each_profile(marks, standard, low_fp, low_fn):
    scores = [score_of(marks, profile).score for profile in ("standard", "low_fp", "low_fn")]
    assert scores == pytest.approx([standard, low_fp, low_fn])


def test_one_threshold_holds_for_all_files():
    """The first file would like 0.3, the second must pay for it."""
    spans = [(40, 49)]
    loud, quiet = np.full(100, 0.4), np.zeros(100)
    loud[40], quiet[40] = 0.5, 0.3
    both = [(each, windows.worth(100, spans)) for each in (loud, quiet)]
    assert windows.best(both, "standard").score == pytest.approx(50.0)
    assert windows.best(both[1:], "standard").score == pytest.approx(100.0)
