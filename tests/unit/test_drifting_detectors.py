"""Detectors whose normal drifts with a tag, and the one of a unit as a whole: by numbers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.detectors.baseline import Baseline
from pipelines.detectors.change import Change
from pipelines.detectors.following import follow
from pipelines.detectors.jacobi import eigen
from pipelines.detectors.level import Level
from pipelines.detectors.port import Context, Signal
from pipelines.detectors.student import limits, quantile
from pipelines.detectors.subspace import Subspace, held_out, wandering
from pipelines.detectors.variance import Variance
from pipelines.features.columns import Columns
from pipelines.features.row import Row
from schemas.plant import Asset, Cell, Group, Range, Tag

S = 1_000_000
WARM_UP = 400


def columns_of(n: int) -> Columns:
    wide = Range(low=-1e6, high=1e6)
    tags = tuple(
        Tag(id=k + 1, name=f"t{k}", asset="pump", unit="bar", range=wide, group="g", hold_s=30.0, node=f"/t{k}")
        for k in range(n)
    )
    group = Group(id="g", period_s=1.0, warm_up_rows=WARM_UP)
    asset = Asset(id="pump", title="Pump")
    cell = Cell(
        id="c", path="a/b/c/d/e", namespace="urn:t", lateness_s=1.0, assets=(asset,), groups=(group,), tags=tags
    )
    return Columns.of(cell, group)


def run(detector, columns: Columns, values, first: int = 0, **context) -> list[tuple[int, Signal]]:
    """Judge rows; return (index of the row, signal)."""
    n, baseline, found = len(columns), Baseline(columns), []
    for k, value in enumerate(values, start=first):
        row = Row("g", columns.names, k * S, (k + 1) * S, value, np.ones(n, bool), np.zeros(n, np.uint8), True)
        fields = {"executing": True, "blocked": np.zeros(n, bool), "doubtful": np.zeros(n, bool), **context}
        judged = Context(**fields, baseline=baseline, z=baseline.z(value))
        found += [(k, signal) for signal in detector.update(row, judged)]
    return found


def noise(rows: int, n: int = 1, seed: int = 0) -> np.ndarray:
    return 10.0 + np.random.default_rng(seed).standard_normal((rows, n))


def learnt(kind, values: np.ndarray):
    columns = columns_of(values.shape[1])
    detector = kind(columns)
    detector.calibrate(np.arange(values.shape[1]), values[:WARM_UP])
    return detector, columns


# ---------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("tail", "dof", "t"),
    [(0.05, 1, 6.3138), (0.025, 2, 4.3027), (0.001, 3, 10.2145), (0.005, 7, 3.4995), (0.0005, 30, 3.6460)],
)
def test_quantiles_are_those_of_the_tables(tail, dof, t):
    assert quantile(tail, dof) == pytest.approx(t, abs=5e-5)


@pytest.mark.parametrize("tail", [0.0, 0.5, float("nan"), -1.0])
def test_tail_that_is_none_is_refused(tail):
    with pytest.raises(ValueError, match="is not between"):
        quantile(tail, 3)


def test_limit_falls_as_a_tag_crosses_its_mean_more_often():
    wide, middle, sharp = limits(1e-3, np.array([0, 40, 4000]), 0.1)
    assert wide == pytest.approx(318.31, abs=0.01)
    assert middle == pytest.approx(quantile(1e-3, 4))
    assert sharp == pytest.approx(quantile(1e-3, 60))


def test_limit_between_two_degrees_lies_between_them():
    (limit,) = limits(1e-3, np.array([45]), 0.1)
    assert limit == pytest.approx((quantile(1e-3, 4) + quantile(1e-3, 5)) / 2)


def test_tag_that_walks_crosses_seldom_and_one_that_trembles_often():
    trembling = noise(WARM_UP)
    walking = np.cumsum(trembling - 10.0, axis=0)
    normal = follow(np.hstack([trembling, walking]), 0.15, 150.0)
    assert normal.crossings[0] > 3 * normal.crossings[1]


# ---------------------------------------------------------------------- level


def test_level_opens_soon_after_a_shift_and_closes_when_it_is_undone():
    values = noise(1200)
    values[600:900] += 3.0
    detector, columns = learnt(Level, values)
    found = run(detector, columns, values[WARM_UP:], WARM_UP)
    assert [(signal.begins, signal.slot) for _, signal in found] == [(True, 0), (False, 0)]
    opened, closed = found[0][0], found[1][0]
    assert 602 <= opened <= 612
    assert 930 <= closed <= 960
    assert found[0][1].direction == "up"
    assert 600 * S < found[0][1].onset_at <= (opened + 1) * S


def test_level_held_before_a_shift_stays_there_however_long_it_lasts():
    values = noise(980)
    values[500:] += 3.0
    detector, columns = learnt(Level, values)
    found = run(detector, columns, values[WARM_UP:], WARM_UP)
    assert [signal.begins for _, signal in found] == [True]


def test_condition_that_lasts_too_long_has_become_the_normal():
    values = noise(1400)
    values[500:] += 3.0
    columns = columns_of(1)
    detector = Level(columns, freeze_rows_max=200)
    detector.calibrate(np.array([0]), values[:WARM_UP])
    found = run(detector, columns, values[WARM_UP:], WARM_UP)
    assert [signal.begins for _, signal in found] == [True, False]
    assert 700 < found[1][0] < 720


def test_slow_drift_is_followed_and_no_condition():
    values = noise(2400) + np.linspace(0.0, 12.0, 2400)[:, None]
    detector, columns = learnt(Level, values)
    assert run(detector, columns, values[WARM_UP:], WARM_UP) == []


def test_healthy_hours_give_nothing():
    values = noise(8000, n=8, seed=5)
    for kind in (Level, Variance):
        detector, columns = learnt(kind, values)
        assert run(detector, columns, values[WARM_UP:], WARM_UP) == []


def test_tag_that_stood_still_in_the_warm_up_is_not_judged():
    values = np.full((600, 1), 7.0)
    values[500:] = 9.0
    for kind in (Level, Variance, Change):
        detector, columns = learnt(kind, values)
        assert run(detector, columns, values[WARM_UP:], WARM_UP) == []


# ---------------------------------------------------------------------- variance, change


@pytest.mark.parametrize(("factor", "direction"), [(4.0, "up"), (0.05, "down")])
def test_variance_finds_a_tag_that_becomes_restless_or_calm(factor, direction):
    values = noise(1000, seed=2)
    values[600:] = 10.0 + factor * (values[600:] - 10.0)
    detector, columns = learnt(Variance, values)
    found = run(detector, columns, values[WARM_UP:], WARM_UP)
    assert [(signal.begins, signal.direction) for _, signal in found[:1]] == [(True, direction)]
    assert 605 <= found[0][0] <= 720


def test_variance_does_not_judge_a_tag_that_is_rounded_as_coarsely_as_it_trembles():
    values = np.round(noise(1000, seed=2) / 2.0)
    values[600:] = np.round(noise(400, seed=3) * 3.0)
    detector, columns = learnt(Variance, values)
    assert run(detector, columns, values[WARM_UP:], WARM_UP) == []


def test_variance_passes_over_a_shift():
    values = noise(1000)
    values[600:] += 3.0
    detector, columns = learnt(Variance, values)
    assert run(detector, columns, values[WARM_UP:], WARM_UP) == []


def test_change_claims_where_a_transition_begins_and_where_it_is_undone():
    values = noise(900)
    values[600:700] += 5.0
    detector, columns = learnt(Change, values)
    claims = [k for k, signal in run(detector, columns, values[WARM_UP:], WARM_UP) if signal.begins]
    assert any(600 <= k <= 606 for k in claims)
    assert any(700 <= k <= 706 for k in claims)


def test_tags_that_move_together_make_one_claim():
    values = noise(640, n=4)
    values[600:] += 6.0
    columns = columns_of(4)
    detector = Change(columns, pause_rows=30)
    detector.calibrate(np.arange(4), values[:WARM_UP])
    rows = [k for k, signal in run(detector, columns, values[WARM_UP:], WARM_UP) if signal.begins and 600 <= k < 630]
    assert len(set(rows)) == 1


# ---------------------------------------------------------------------- unit


def unit_values(rows: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    sources = random.standard_normal((rows, 3))
    mixing = np.random.default_rng(9).standard_normal((3, 12))
    return 50.0 + sources @ mixing + 0.1 * random.standard_normal((rows, 12))


@pytest.mark.parametrize("n", [2, 3, 7, 30])
def test_eigenvectors_rebuild_the_matrix(n):
    root = np.random.default_rng(n).standard_normal((n, n))
    symmetric = root @ root.T
    values, vectors = eigen(symmetric)
    assert np.all(np.diff(values) <= 0)
    assert np.allclose(vectors * values @ vectors.T, symmetric, atol=1e-9)
    assert np.allclose(vectors.T @ vectors, np.eye(n), atol=1e-12)


def test_eigenvalues_of_a_matrix_with_equal_and_zero_ones():
    values, _ = eigen(np.diag([0.0, 2.0, 2.0, 0.0]))
    assert values.tolist() == [2.0, 2.0, 0.0, 0.0]


def test_broken_correlation_is_found_although_each_tag_is_within_its_range():
    values = unit_values(700)
    values[600:, 4] = np.random.default_rng(2).permutation(values[600:, 4])
    detector, columns = learnt(Subspace, values)
    found = run(detector, columns, values[WARM_UP:], WARM_UP)
    assert [(signal.begins, signal.slot) for _, signal in found] == [(True, 4)]
    assert 602 <= found[0][0] <= 610
    assert values[600:, 4].max() <= values[:600, 4].max()


def test_healthy_unit_is_silent():
    values = unit_values(4000)
    detector, columns = learnt(Subspace, values)
    assert run(detector, columns, values[WARM_UP:], WARM_UP) == []


def test_unit_that_wanders_is_not_judged():
    values = np.cumsum(unit_values(800) - 50.0, axis=0)
    assert wandering(values[:WARM_UP]) == 1.0
    detector, columns = learnt(Subspace, values)
    assert run(detector, columns, values[WARM_UP:], WARM_UP) == []


def test_held_out_rows_are_further_away_than_chance_says():
    block = unit_values(WARM_UP)
    raw, mean = held_out(block)
    assert 12 < raw < 100
    assert mean < raw


def test_tag_whose_centre_moved_on_purpose_is_normal_at_the_new_one():
    values = unit_values(900)
    values[500:, 2] += 20.0
    detector, columns = learnt(Subspace, values)
    detector.calibrate(np.array([2]), values[500:600, 2:3])
    assert run(detector, columns, values[600:], 600) == []


# ---------------------------------------------------------------------- memory


@pytest.mark.parametrize("kind", [Level, Variance, Change, Subspace])
def test_restored_memory_goes_on_bit_for_bit_from_any_row(kind):
    values = unit_values(900)
    values[600:750, 3] += 8.0
    values[800:, 5] = 50.0 + 9.0 * (values[800:, 5] - 50.0)
    whole, columns = learnt(kind, values)
    expected = run(whole, columns, values[WARM_UP:], WARM_UP)
    assert expected
    for cut in (401, 603, 640, 790):
        first, _ = learnt(kind, values)
        signals = run(first, columns, values[WARM_UP:cut], WARM_UP)
        second = kind(columns)
        second.restore(first.snapshot())
        assert signals + run(second, columns, values[cut:], cut) == expected
        assert second.snapshot() == whole.snapshot()


@pytest.mark.parametrize("kind", [Level, Variance, Change, Subspace])
@pytest.mark.parametrize("context", [{"executing": False}, {"blocked": np.ones(12, bool)}])
def test_nothing_begins_while_the_cell_stands_or_tags_are_blocked(kind, context):
    values = unit_values(700)
    values[500:] += 30.0
    detector, columns = learnt(kind, values)
    assert run(detector, columns, values[WARM_UP:], WARM_UP, **context) == []


@pytest.mark.parametrize("kind", [Level, Variance, Change, Subspace])
def test_gaps_in_the_values_are_passed_over(kind):
    values = unit_values(700)
    values[450:470] = np.nan
    detector, columns = learnt(kind, values)
    assert run(detector, columns, values[WARM_UP:], WARM_UP) == []
