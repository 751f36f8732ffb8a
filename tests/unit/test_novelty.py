"""Novelty of one tag: what bursts, what does not, and that nothing depends on how the rows come."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.detectors.own_past.neighbours import Embedding
from pipelines.detectors.own_past.novelty import ROWS_MIN, Novelty
from pipelines.detectors.own_past.tail import BINS, SURPRISE_MAX, Tail, bin_of, log10
from pipelines.features.packed import pack, unpack

WARM_UP = 100


def rhythm(n: int, seed: int = 0) -> np.ndarray:
    """A wave of 50 rows with a little noise."""
    noise = np.random.default_rng(seed).standard_normal(n)
    return 10.0 * np.sin(np.arange(n) * 2 * np.pi / 50) + 0.3 * noise


def bursts(values: np.ndarray, warm_up_rows: int = WARM_UP) -> list[int]:
    return np.flatnonzero(Novelty(warm_up_rows).scores(values)).tolist()


@pytest.mark.parametrize("change", ["spike", "dropout", "step", "frozen", "out of phase"])
def test_what_was_never_seen_bursts_within_forty_rows(change):
    values = rhythm(900)
    match change:
        case "spike":
            values[700] += 30.0
        case "dropout":
            values[700:705] = -40.0
        case "step":
            values[700:] += 25.0
        case "frozen":
            values[700:] = values[700] + 8.0
        case "out of phase":
            values[700:] = rhythm(925)[725:]
    assert not [row for row in bursts(rhythm(900)) if row >= 650]
    assert [row for row in bursts(values) if 700 <= row < 740]


def test_one_episode_is_told_once():
    values = rhythm(900)
    values[700:712] += 30.0
    found = [row for row in bursts(values) if 700 <= row < 740]
    assert found == [700]


def test_worse_within_an_episode_is_told_again():
    values = rhythm(900)
    values[700:712] += 6.0
    values[712] += 300.0
    found = [row for row in bursts(values) if 700 <= row < 740]
    assert len(found) == 2
    assert found[-1] == 712


def test_recurring_pattern_is_told_at_first_and_no_more():
    values = rhythm(2000)
    values[700::100] += 30.0
    found = Novelty(200).scores(values)
    assert found[700] > 0.5
    assert not found[1100::100].any()


def test_odd_tag_has_to_be_odder_each_time():
    often, once = rhythm(1800, seed=1), rhythm(1800, seed=1)
    for k, row in enumerate(range(500, 1800, 150)):
        often[row] += 30.0 * 1.5**k
    once[1700] = often[1700]
    assert 0.5 < Novelty(WARM_UP).scores(often)[1700] < Novelty(WARM_UP).scores(once)[1700]


def test_constant_input_is_silent_and_its_first_change_is_as_surprising_as_can_be():
    values = np.full(600, 5.0)
    values[500] = 5.1
    novelty = Novelty(WARM_UP)
    judged = [novelty.update(value) for value in values.tolist()]
    assert [k for k, row in enumerate(judged) if row.burst > 0.0] == [500]
    assert {row.surprise for row in judged[:500]} == {0.0}
    assert judged[500].surprise > 4.0


def test_nothing_is_told_before_there_is_a_past():
    values = rhythm(300)
    values[ROWS_MIN - 10] += 1000.0
    assert not [row for row in bursts(values) if row < ROWS_MIN]


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_row_without_a_value_is_as_if_it_were_not_there(missing):
    values, with_gaps = rhythm(500), []
    for k, value in enumerate(values.tolist()):
        with_gaps += [value, missing] if k % 7 == 0 else [value]
    scores = Novelty(WARM_UP).scores(np.array(with_gaps))
    judged = np.isfinite(with_gaps)
    assert scores[judged].tolist() == Novelty(WARM_UP).scores(values).tolist()
    assert not scores[~judged].any()


@pytest.mark.parametrize("split", [1, 7, 333, 899])
def test_batch_split_does_not_change_a_bit(split):
    values = rhythm(900)
    values[600:620] += 20.0
    novelty = Novelty(WARM_UP)
    parts = [novelty.scores(values[at : at + split]) for at in range(0, len(values), split)]
    whole = Novelty(WARM_UP)
    assert np.concatenate(parts).tobytes() == whole.scores(values).tobytes()
    assert pack(novelty.state()) == pack(whole.state())


@pytest.mark.parametrize("at", [0, 1, 50, 119, 347, 695, 701, 899])
def test_restored_memory_goes_on_bit_for_bit(at):
    values = rhythm(900)
    values[700:] += 25.0
    whole, first = Novelty(WARM_UP), Novelty(WARM_UP)
    expected = whole.scores(values)
    before = first.scores(values[:at])
    second = Novelty.of(unpack(pack(first.state())))
    assert np.concatenate([before, second.scores(values[at:])]).tobytes() == expected.tobytes()
    assert pack(second.state()) == pack(whole.state())


def test_memory_is_bounded():
    novelty = Novelty(10**9)
    novelty.scores(rhythm(4600))
    assert len(pack(novelty.state())) < 56_000


@pytest.mark.parametrize("unit", [1e-6, 4.0, 1e6])
def test_unit_of_the_tag_hardly_matters(unit):
    values = rhythm(900)
    values[700] += 30.0
    assert 700 in bursts(values * unit)


def test_huge_values_overflow_nothing():
    values = rhythm(300)
    values[200], values[250] = 1e308, -1e308
    assert np.isfinite(Novelty(WARM_UP).scores(values)).all()


@pytest.mark.parametrize("alarm", [0.0, -1.0, math.nan])
def test_alarm_must_be_positive(alarm):
    with pytest.raises(ValueError, match="alarm"):
        Novelty(WARM_UP, alarm=alarm)


def test_distance_is_the_mean_of_the_three_nearest():
    past = np.array([9.0, 1.0, 2.0, 4.0, *[100.0] * 6, *[50.0] * 12, 0.0])
    assert Embedding(1, 1).distance(past, 100) == (1.0 + 2.0 + 4.0) / 3


def test_distance_is_unknown_with_nine_candidates_and_known_with_ten():
    assert math.isnan(Embedding(1, 1).distance(np.zeros(21), 100))
    assert Embedding(1, 1).distance(np.zeros(22), 100) == 0.0


def test_distance_looks_no_further_back_than_the_history():
    past = np.concatenate([np.zeros(50), np.full(50, 7.0), [0.0]])
    assert Embedding(1, 1).distance(past, 50) == 7.0
    assert Embedding(1, 1).distance(past, 53) == 0.0


def test_surprise_is_the_rank_within_the_past_and_grows_beyond_it():
    past = Tail(1000)
    for k in np.random.default_rng(0).permutation(np.arange(1, 1000)).tolist():
        past.surprise(1000.0 / k)
    surprises = []
    for value in (2.0, 100.0, 1000.0, 4000.0, 1e30):
        tail = Tail(1000)
        tail.load(unpack(pack(past.state())))
        surprises.append(tail.surprise(value))
    assert surprises[0] == pytest.approx(math.log10(2.0), abs=0.1)
    assert surprises[1] == pytest.approx(2.0, abs=0.3)
    assert surprises[2] == pytest.approx(3.0, abs=0.4)
    assert surprises[2] < surprises[3] < surprises[4] == SURPRISE_MAX


def test_old_surprises_are_forgotten_after_the_window():
    short, long = Tail(100), Tail(10_000)
    for tail in (short, long):
        for value in [1e6, *[1.0 + k % 10 for k in range(400)]]:
            tail.surprise(value)
    assert short.surprise(1e5) > long.surprise(1e5)


@pytest.mark.parametrize("x", [1.0, 1.5, 2.0, 3.0, 1000.0, 4501.0, 1 / 3, 0.75, 1e-9])
def test_logarithm_is_right_to_the_last_digits(x):
    assert log10(x) == pytest.approx(math.log10(x), abs=4e-16 * max(1.0, abs(math.log10(x)) * 2))


@pytest.mark.parametrize(
    ("statistic", "place"), [(0.0, 0), (-1.0, 0), (2.0**-97, 0), (2.0**96, BINS - 1), (math.inf, BINS - 1)]
)
def test_bins_end_at_both_sides(statistic, place):
    assert bin_of(statistic) == place
