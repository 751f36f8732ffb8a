"""What every detector of the table keeps to. A new line in `DETECTORS` is tested here without another word."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.detectors import DETECTORS
from pipelines.detectors.baseline import Baseline
from pipelines.detectors.port import Context, Detector, Signal
from pipelines.features.columns import Columns
from pipelines.features.row import BAD, HELD, STALE, Row
from tests.feeding import T0, S, small_cell

WARM_UP, HEALTHY, TROUBLED = 20, 60, 40
CELL = small_cell(warm_up_rows=WARM_UP)
COLUMNS = Columns.of(CELL, CELL.groups[0])
SUBJECT = COLUMNS.names.index("torque_n")

Change = Callable[[int, float], tuple[float, int, bool]]
"""(row of the trouble, healthy value) -> (value, flags, fresh)."""

TROUBLES: dict[str, Change] = {
    "step": lambda k, x: (x + 80.0, 0, True),
    "steps": lambda k, x: (x + 80.0 * (k // 3 % 2), 0, True),
    "ramp": lambda k, x: (x + 5.0 * k, 0, True),
    "spike": lambda k, x: (x + 500.0 * (k == 5), 0, True),
    "noise": lambda k, x: (10.0 + 30.0 * (x - 10.0), 0, True),
    "calm": lambda k, x: (10.0 + (x - 10.0) / 1e6, 0, True),
    "repeats": lambda k, x: (10.0, 0, True),
    "bad status": lambda k, x: (np.nan, BAD, True),
    "silence": lambda k, x: (np.nan, STALE, False),
    "missed latches": lambda k, x: (10.0, HELD, False),
}


def healthy_rows(n: int, seed: int = 0) -> list[Row]:
    random = np.random.default_rng(seed)
    scale = np.array([0.0, 1.0, 0.05, 0.0, 0.05])
    values = np.array([0.0, 10.0, 15.0, 15.0, 0.0]) + scale * random.standard_normal((n, len(COLUMNS)))
    values[:, 0] = np.arange(n)
    return [row_of(k, values[k], np.zeros(len(COLUMNS)), np.ones(len(COLUMNS))) for k in range(n)]


def row_of(k: int, values: object, flags: object, fresh: object) -> Row:
    arrays = (np.array(values, float), np.array(fresh, bool), np.array(flags, np.uint8))
    for array in arrays:
        array.flags.writeable = False  # a detector that writes into a row fails here
    sound = not (arrays[2] & ~np.uint8(HELD)).any()
    return Row("cycle", COLUMNS.names, T0 + 2 * k * S, T0 + 2 * (k + 1) * S, *arrays, sound)


def troubled_rows(change: Change, n: int = TROUBLED) -> list[Row]:
    rows = healthy_rows(HEALTHY + n)
    for k in range(n):
        row = rows[HEALTHY + k]
        values, flags, fresh = row.values.copy(), row.flags.copy(), row.fresh.copy()
        values[SUBJECT], flags[SUBJECT], fresh[SUBJECT] = change(k, float(values[SUBJECT]))
        rows[HEALTHY + k] = row_of(HEALTHY + k, values, flags, fresh)
    return rows


class Bench:
    """A detector with the baseline that a watch would give it."""

    def __init__(self, name: str, columns: Columns = COLUMNS) -> None:
        self.detector: Detector = DETECTORS[name](columns)
        self.baseline = Baseline(columns)
        self.blocked = np.zeros(len(columns), dtype=bool)
        self.seen: list[Row] = []

    def run(self, rows: list[Row]) -> list[tuple[int, Signal]]:
        """Judge rows, learn after the warm-up; return (end of the row, signal)."""
        signals = []
        for row in rows:
            context = Context(
                executing=True,
                blocked=self.blocked,
                doubtful=np.zeros(len(self.blocked), dtype=bool),
                baseline=self.baseline,
                z=self.baseline.z(row.values),
            )
            signals += [(row.end_at, signal) for signal in self.detector.update(row, context)]
            self.seen.append(row)
            if len(self.seen) == WARM_UP:
                slots = np.flatnonzero(COLUMNS.watched)
                block = np.array([r.values[slots] for r in self.seen])
                self.baseline.learn(slots, block)
                self.detector.calibrate(slots, block)
        return signals


pytestmark = pytest.mark.parametrize("name", DETECTORS)


def test_declares_what_it_is(name):
    detector = Bench(name).detector
    assert detector.family in ("data", "process")
    assert detector.severity in ("low", "medium", "high")
    assert isinstance(detector.learns, bool)


def test_is_silent_on_a_healthy_group(name):
    assert Bench(name).run(healthy_rows(600, seed=3)) == []


def test_finds_at_least_one_kind_of_trouble(name):
    found = [trouble for trouble, change in TROUBLES.items() if Bench(name).run(troubled_rows(change))]
    assert found, f"{name} finds none of {', '.join(TROUBLES)}: add the trouble that it is for to TROUBLES"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_signals_are_well_formed(name, trouble):
    rows = troubled_rows(TROUBLES[trouble])
    open_slots: set[int] = set()
    for end_at, signal in Bench(name).run(rows + healthy_rows(HEALTHY + TROUBLED + 60)[HEALTHY + TROUBLED :]):
        assert 0 <= signal.slot < len(COLUMNS)
        assert signal.begins is (signal.slot not in open_slots), "a condition begins once and ends once"
        open_slots ^= {signal.slot}
        if signal.begins:
            assert rows[HEALTHY].start_at < signal.onset_at <= end_at
            assert COLUMNS.names[signal.slot] in signal.detail
            assert signal.direction in ("up", "down", "none")


@pytest.mark.parametrize("trouble", TROUBLES)
def test_restored_memory_goes_on_bit_for_bit(name, trouble):
    rows = troubled_rows(TROUBLES[trouble])
    whole = Bench(name)
    expected = whole.run(rows)
    for at in (0, 1, WARM_UP, HEALTHY + 2, HEALTHY + 7):
        first, second = Bench(name), Bench(name)
        signals = first.run(rows[:at])
        second.baseline, second.seen = first.baseline, list(first.seen)
        second.detector.restore(first.detector.snapshot())
        assert signals + second.run(rows[at:]) == expected
        assert second.detector.snapshot() == whole.detector.snapshot()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_blocked_tag_begins_nothing(name, trouble):
    rows, bench = troubled_rows(TROUBLES[trouble]), Bench(name)
    bench.run(rows[:HEALTHY])
    bench.blocked[SUBJECT] = True
    assert [s for _, s in bench.run(rows[HEALTHY:]) if s.begins and s.slot == SUBJECT] == []


def test_tag_without_a_value_is_no_process_finding(name):
    bench = Bench(name)
    bench.run(healthy_rows(HEALTHY))
    nothing = [row_of(HEALTHY + k, [np.nan] * 5, [BAD] * 5, [False] * 5) for k in range(30)]
    found = bench.run(nothing)
    assert found == [] or bench.detector.family == "data"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_reset_condition_can_begin_again_with_a_later_onset(name, trouble):
    rows, bench = troubled_rows(TROUBLES[trouble]), Bench(name)
    before = [s for _, s in bench.run(rows[: HEALTHY + 20]) if s.begins]
    bench.detector.reset(np.arange(len(COLUMNS)))
    after = [s for _, s in bench.run(rows[HEALTHY + 20 :])]
    assert not after or after[0].begins
    for signal in after:
        if signal.begins:
            assert signal.onset_at > rows[HEALTHY + 19].end_at
            assert signal.onset_at not in {s.onset_at for s in before if s.slot == signal.slot}
