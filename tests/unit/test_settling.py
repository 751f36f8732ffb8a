"""What a row may teach, and when a tag is itself again after a stop."""

from __future__ import annotations

import numpy as np

from pipelines.detectors import DETECTORS
from pipelines.detectors.config import DetectorConfig
from pipelines.detectors.watch import Watch
from pipelines.features.columns import Columns
from pipelines.features.line_state import LineStates
from pipelines.features.row import Row
from schemas.plant import Asset, Cell, Group, Limits, Range, Tag

SECOND = 1_000_000


def watch() -> Watch:
    tag = {"asset": "a", "unit": "1", "group": "g", "range": Range(low=-1e6, high=1e6)}
    cell = Cell(
        id="c",
        path="e/s/a/l/c",
        namespace="urn:test",
        assets=(Asset(id="a", title="A"),),
        groups=(Group(id="g", period_s=1.0, warm_up_rows=10),),
        tags=(
            Tag(id=1, name="slip_mm", node="/A", limits=Limits(high=2.0), **tag),
            Tag(id=2, name="heat_degc", node="/B", settle_s=60.0, **tag),
        ),
    )
    return Watch(Columns.of(cell, cell.groups[0]), dict(DETECTORS), DetectorConfig())


def row(number: int, slip: float, heat: float) -> Row:
    return Row(
        "g",
        ("slip_mm", "heat_degc"),
        (number - 1) * SECOND,
        number * SECOND,
        np.array([slip, heat]),
        np.ones(2, dtype=np.bool_),
        np.zeros(2, dtype=np.uint8),
        True,
    )


def calibrations(rows: list[Row], **how: int) -> list[int]:
    w = watch()
    return [r.end_at // SECOND for r in rows if w.judge(r, executing=True, **how).calibrations]


def test_a_row_that_breaks_a_hard_limit_teaches_nothing_on_any_tag():
    broken = [row(n, 25.0, 50.0 + 0.01 * n) for n in range(1, 6)]
    good = [row(n, 0.1 + 0.001 * n, 50.0 + 0.01 * n) for n in range(6, 21)]
    assert calibrations(broken + good) == [15]


def test_a_value_at_the_limit_still_teaches_and_just_above_it_not():
    at = [row(n, 2.0 if n == 3 else 0.001 * n, 0.01 * n) for n in range(1, 13)]
    above = [row(n, float(np.nextafter(2.0, 3.0)) if n == 3 else 0.001 * n, 0.01 * n) for n in range(1, 13)]
    assert (calibrations(at), calibrations(above)) == ([10], [11])


def test_a_tag_that_settles_is_neither_learnt_nor_judged_until_its_time_after_a_stop():
    rows = [row(n, 0.001 * (n % 7), 50.0 + 0.01 * (n % 7)) for n in range(1, 80)]
    assert calibrations(rows, stopped_until=5 * SECOND) == [14, 74]  # ten rows from 5 s on, ten from 65 s on


def test_a_stop_is_over_when_execute_began_and_none_was_seen_before_the_first_state():
    states = LineStates(required=True)
    states.take(10, 6)
    assert states.stopped_until(20) is None
    states.take(30, 11)
    assert states.stopped_until(35) is None
    states.take(50, 6)
    states.take(60, 6)
    assert (states.stopped_until(49), states.stopped_until(50), states.stopped_until(99)) == (None, 50, 50)
