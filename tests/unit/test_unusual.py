"""The condition that novelty opens on a tag of a group, and when it ends."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.detectors.baseline import Baseline
from pipelines.detectors.port import Context, Signal
from pipelines.detectors.unusual import CLEAR_ROWS, Unusual
from pipelines.features.columns import Columns
from pipelines.features.row import Row
from tests.feeding import T0, S, small_cell

WARM_UP = 150
CELL = small_cell(warm_up_rows=WARM_UP)
COLUMNS = Columns.of(CELL, CELL.groups[0])
TORQUE = COLUMNS.names.index("torque_n")
WATCHED = np.flatnonzero(COLUMNS.watched)


def rows_of(n: int) -> np.ndarray:
    """A wave in the torque, noise in the other tags; shape `(n, tags)`."""
    values = np.random.default_rng(2).standard_normal((n, len(COLUMNS)))
    values[:, TORQUE] = 0.2 * values[:, TORQUE] + 5.0 * np.sin(np.arange(n) / 5)
    return values


class Bench:
    """A detector that has learnt the first rows, with the baseline that a watch would give it."""

    def __init__(self, values: np.ndarray, detector: Unusual | None = None) -> None:
        self.baseline = Baseline(COLUMNS)
        self.baseline.learn(WATCHED, values[:WARM_UP, WATCHED])
        self.detector = detector or Unusual(COLUMNS, alarm_decades=1.5)
        self.blocked = np.zeros(len(COLUMNS), dtype=bool)
        self.executing = True
        if detector is None:
            self.detector.calibrate(WATCHED, values[:WARM_UP, WATCHED])

    def run(self, values: np.ndarray, start: int) -> list[tuple[int, Signal]]:
        found = []
        n = len(COLUMNS)
        nobody = np.zeros(n, dtype=bool)
        for k in range(start, len(values)):
            flags = np.zeros(n, dtype=np.uint8)
            at = T0 + k * S
            row = Row("cycle", COLUMNS.names, at, at + S, values[k], ~nobody, flags, sound=True)
            context = Context(self.executing, self.blocked, nobody, self.baseline, self.baseline.z(values[k]))
            found += [(k, signal) for signal in self.detector.update(row, context)]
        return found


def troubled(n: int = 520) -> np.ndarray:
    values = rows_of(n)
    values[400:410, TORQUE] = 60.0
    return values


def test_condition_begins_at_the_row_and_ends_after_rows_that_are_like_the_past():
    (begun, first), (ended, last) = Bench(troubled()).run(troubled(), WARM_UP)
    assert (begun, first.slot, first.direction) == (400, TORQUE, "up")
    assert first.onset_at == T0 + 401 * S
    assert "torque_n: 60 N is unlike its past" in first.detail
    assert last == Signal(TORQUE, begins=False)
    assert 410 + CLEAR_ROWS <= ended + 1 <= 480


def test_drop_is_told_as_down():
    values = rows_of(420)
    values[400:, TORQUE] = -60.0
    assert [signal.direction for _, signal in Bench(values).run(values, WARM_UP)] == ["down"]


def test_tag_that_is_blocked_or_has_no_value_begins_nothing():
    bench, without = Bench(troubled()), troubled()
    without[400:410, TORQUE] = np.nan
    assert bench.run(without, WARM_UP) == []
    bench = Bench(troubled())
    bench.blocked[TORQUE] = True
    assert bench.run(troubled(), WARM_UP) == []


def test_cell_that_does_not_execute_is_not_judged_and_teaches_nothing():
    bench = Bench(troubled())
    before = bench.detector.snapshot()
    bench.executing = False
    assert bench.run(troubled(), WARM_UP) == []
    assert bench.detector.snapshot() == before


def test_nothing_before_the_warm_up():
    values = troubled()
    bench = Bench(values, Unusual(COLUMNS))
    assert bench.run(values, WARM_UP) == []


@pytest.mark.parametrize("at", [150, 399, 401, 415, 519])
def test_restored_memory_goes_on_bit_for_bit(at):
    values = troubled()
    whole, first = Bench(values), Bench(values)
    expected = whole.run(values, WARM_UP)
    before = first.run(values[:at], WARM_UP)
    second = Bench(values, Unusual(COLUMNS, alarm_decades=1.5))
    second.detector.restore(first.detector.snapshot())
    assert before + second.run(values, at) == expected
    assert second.detector.snapshot() == whole.detector.snapshot()


def test_reset_condition_can_begin_again_with_a_later_onset():
    values, bench = troubled(), Bench(troubled())
    values[420, TORQUE] = 500.0
    assert [k for k, signal in bench.run(values[:420], WARM_UP) if signal.begins] == [400]
    bench.detector.reset(np.array([TORQUE]))
    (again, signal), *_ = bench.run(values, 420)
    assert (again, signal.begins, signal.onset_at) == (420, True, T0 + 421 * S)


def test_it_does_not_write_into_the_row():
    values = troubled(200)
    values.flags.writeable = False
    Bench(values).run(values, WARM_UP)
