"""Rows: what wins, what is held, what is late, and what a gap does."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pipelines.features.cell_rows import CellRows
from pipelines.features.completeness import RETIRED_US
from pipelines.features.packed import pack, unpack
from pipelines.features.row import BAD, HELD, MISSING, STALE, Row
from pipelines.features.rows import CATCH_UP_ROWS_MAX, PENDING_PER_TAG_MAX
from schemas.errors import ConfigError
from schemas.plant import Cell
from schemas.samples import Gap, Tick
from tests.feeding import BAD as BAD_STATUS
from tests.feeding import COUNT, FORCE, LEVEL, SP, T0, TORQUE, S, batch, small_cell


def rows_of(*messages: object) -> list[Row]:
    cell_rows, rows = CellRows(small_cell()), []
    for message in messages:
        match message:
            case list():
                cell_rows.take(batch(message))
            case Gap():
                cell_rows.take_gap(message)
            case Tick():
                rows += cell_rows.tick(message)
    return rows


def tick(after_s: float, *, alive: bool = True, stale: tuple[int, ...] = ()) -> Tick:
    return Tick("s", 1, 0, T0 + int(after_s * S), alive, stale)


def at(after_s: float) -> int:
    return T0 + int(after_s * S)


def levels(rows: list[Row]) -> list[tuple[float, int]]:
    """Value and flags of the grid's only tag; NaN as None to compare."""
    grid = [row for row in rows if row.group == "grid"]
    return [(None if math.isnan(row.values[0]) else float(row.values[0]), int(row.flags[0])) for row in grid]


def test_last_good_sample_by_source_time_wins_whatever_the_order_of_arrival():
    rows = rows_of(tick(0), [(LEVEL, at(0.8), 2.0), (LEVEL, at(0.3), 1.0)], tick(2))
    assert levels(rows) == [(2.0, 0)]


def test_of_two_samples_of_one_time_the_later_arrival_wins():
    rows = rows_of(tick(0), [(LEVEL, at(0.5), 1.0)], [(LEVEL, at(0.5), 2.0)], tick(2))
    assert levels(rows) == [(2.0, 0)]


def test_row_closes_only_when_the_tick_passes_its_end_by_the_lateness():
    samples = [(LEVEL, at(0.5), 1.0)]
    assert levels(rows_of(tick(0), samples, tick(2.0 - 1e-6))) == []
    assert levels(rows_of(tick(0), samples, tick(2.0))) == [(1.0, 0)]


def test_sample_on_the_end_of_a_row_belongs_to_it():
    rows = rows_of(tick(0), [(LEVEL, at(1.0), 1.0), (LEVEL, at(1.0) + 1, 2.0)], tick(3))
    assert levels(rows) == [(1.0, 0), (2.0, 0)]


def test_value_is_held_until_hold_s_is_over_and_then_is_stale():
    rows = rows_of(tick(0), [(LEVEL, at(1.0), 1.0)], tick(6))
    assert levels(rows) == [(1.0, 0), (1.0, HELD), (1.0, HELD), (1.0, HELD), (None, STALE)]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (2.0, BAD_STATUS),
        (2.0, 0x40000000),
        (math.nan, 0),
        (math.inf, 0),
        (-math.inf, 0),
        (math.nextafter(1000.0, 2e3), 0),
    ],
)
def test_not_good_sample_ends_the_hold_until_the_next_good_one(value, status):
    rows = rows_of(tick(0), [(LEVEL, at(0.5), 1.0), (LEVEL, at(1.5), value, status), (LEVEL, at(3.5), 3.0)], tick(5))
    assert levels(rows) == [(1.0, 0), (None, BAD), (None, BAD), (3.0, 0)]


def test_value_on_the_edge_of_the_range_is_good():
    assert levels(rows_of(tick(0), [(LEVEL, at(0.5), 1000.0)], tick(2))) == [(1000.0, 0)]


def test_good_sample_before_a_bad_one_in_the_same_row_stands_and_the_row_says_so():
    rows = rows_of(tick(0), [(LEVEL, at(0.2), 1.0), (LEVEL, at(0.5), 2.0, BAD_STATUS)], tick(3))
    assert levels(rows) == [(1.0, BAD), (None, BAD)]
    assert rows[0].fresh[0]


def test_late_sample_is_counted_and_reopens_no_row():
    cell_rows = CellRows(small_cell())
    cell_rows.tick(tick(0))
    first = cell_rows.tick(tick(2))
    cell_rows.take(batch([(LEVEL, at(0.9), 5.0)]))
    assert levels(first) == [(None, MISSING)]
    assert levels(cell_rows.tick(tick(3))) == [(5.0, HELD)]
    assert cell_rows.late == 1


def test_late_sample_that_is_older_than_the_present_value_changes_nothing():
    rows = rows_of(tick(0), [(LEVEL, at(0.9), 1.0)], tick(2), [(LEVEL, at(0.1), 9.0)], tick(3))
    assert levels(rows) == [(1.0, 0), (1.0, HELD)]


def test_no_value_is_held_in_a_gap_or_over_it():
    gap = Gap("s", 1, 0, (LEVEL,), at(1.5), at(2.5), "test")
    rows = rows_of(tick(0), [(LEVEL, at(0.9), 1.0)], gap, tick(5))
    assert levels(rows) == [(1.0, 0), (None, MISSING), (None, MISSING), (None, MISSING)]


def test_sample_before_a_gap_does_not_stand_for_a_row_that_ends_in_it():
    gap = Gap("s", 1, 0, (), at(0.5), at(3.5), "test")
    assert levels(rows_of(tick(0), [(LEVEL, at(0.4), 1.0)], gap, tick(2))) == [(None, MISSING)]


def test_value_sent_again_after_a_gap_is_held_although_its_time_is_old():
    gap = Gap("s", 1, 0, (), at(1.2), at(2.5), "test")
    rows = rows_of(tick(0), [(LEVEL, at(0.9), 1.0)], tick(2), gap, [(LEVEL, at(0.9), 1.0)], tick(4))
    assert levels(rows) == [(1.0, 0), (None, MISSING), (1.0, HELD)]


def test_gap_of_one_tag_leaves_the_others_alone():
    gap = Gap("s", 1, 0, (FORCE,), at(0.1), at(9.0), "test")
    assert levels(rows_of(tick(0), [(LEVEL, at(0.9), 1.0)], gap, tick(3))) == [(1.0, 0), (1.0, HELD)]


def test_nothing_is_held_while_the_source_is_lost():
    rows = rows_of(tick(0), [(LEVEL, at(0.9), 1.0)], tick(1), tick(2, alive=False), tick(4))
    assert levels(rows) == [(1.0, 0), (None, MISSING), (1.0, HELD)]


def test_tag_told_stale_is_not_held_until_a_new_sample():
    rows = rows_of(tick(0), [(LEVEL, at(0.9), 1.0)], tick(2), tick(3, stale=(LEVEL,)), tick(4))
    assert levels(rows) == [(1.0, 0), (None, STALE), (None, STALE)]
    rows = rows_of(tick(0), tick(2, stale=(LEVEL,)), [(LEVEL, at(1.9), 1.0)], tick(3))
    assert levels(rows) == [(None, STALE), (1.0, 0)]


def test_trigger_row_holds_what_lies_between_two_changes_of_the_counter():
    rows = rows_of(
        tick(0),
        [(COUNT, at(1), 7.0), (TORQUE, at(1), 1.0)],
        [(TORQUE, at(2), 2.0), (TORQUE, at(3), 3.0), (COUNT, at(3), 8.0), (TORQUE, at(3.1), 4.0)],
        tick(4),
    )
    (row,) = [row for row in rows if row.group == "cycle"]
    assert (row.start_at, row.end_at, row.value("torque_n"), row.value("count")) == (at(1), at(3), 3.0, 8.0)


def test_repeated_counter_makes_no_row_and_a_restarted_one_does():
    counts = [(COUNT, at(1), 7.0), (COUNT, at(2), 7.0), (COUNT, at(3), 0.0)]
    rows = [row for row in rows_of(tick(0), counts, tick(5)) if row.group == "cycle"]
    assert [(row.start_at, row.end_at) for row in rows] == [(at(1), at(3))]


def test_bad_counter_makes_no_row():
    counts = [(COUNT, at(1), 7.0), (COUNT, at(2), 8.0, BAD_STATUS), (COUNT, at(3), 9.0)]
    rows = [row for row in rows_of(tick(0), counts, tick(5)) if row.group == "cycle"]
    assert [(row.start_at, row.end_at) for row in rows] == [(at(1), at(3))]


def test_derived_tag_is_the_difference_and_nan_if_either_is_missing():
    first = [(COUNT, at(1), 1.0), (FORCE, at(2), 15.5), (SP, at(2), 15.0), (COUNT, at(2), 2.0)]
    second = [(FORCE, at(3), 15.5, BAD_STATUS), (COUNT, at(3), 3.0)]
    rows = [row for row in rows_of(tick(0), first, second, tick(5)) if row.group == "cycle"]
    assert rows[0].value("deviation_n") == 0.5
    assert math.isnan(rows[1].value("deviation_n"))
    assert rows[1].value("force_sp_n") == 15.0


def test_rows_of_several_groups_come_in_the_order_of_their_ends():
    rows = rows_of(tick(0), [(COUNT, at(0.5), 1.0), (COUNT, at(1.5), 2.0)], tick(4))
    assert [row.end_at for row in rows] == [at(1), at(1.5), at(2), at(3)]


def test_samples_of_unknown_tags_are_counted_and_left():
    cell_rows = CellRows(small_cell())
    cell_rows.take(batch([(999, at(0), 1.0), (LEVEL, at(0), 1.0)]))
    assert cell_rows.unknown == 1


def test_samples_far_in_the_future_are_bounded_and_counted():
    cell_rows = CellRows(small_cell())
    cell_rows.tick(tick(0))
    for k in range(20):
        cell_rows.take(batch([(LEVEL, at(9_000 + k), 1.0)] * 1000))
        cell_rows.tick(tick(k / 100))
    grid = cell_rows.builders[1]
    assert grid.discarded == 20_000 - PENDING_PER_TAG_MAX
    assert levels(cell_rows.tick(tick(2))) == [(None, MISSING)]


def test_group_whose_counter_stands_still_keeps_a_bounded_memory_and_the_last_values():
    cell_rows = CellRows(small_cell())
    cell_rows.take(batch([(COUNT, at(0), 1.0)]))
    cell_rows.tick(tick(0))
    for k in range(1, 60):
        cell_rows.take(batch([(TORQUE, at(k), float(k))] * 1000))
        cell_rows.tick(tick(k))
    cell_rows.take(batch([(COUNT, at(60), 2.0)]))
    (row,) = [row for row in cell_rows.tick(tick(62)) if row.group == "cycle"]
    assert (row.value("torque_n"), cell_rows.builders[0].discarded) == (59.0, 0)


def test_derived_tag_over_two_groups_is_refused():
    cell = small_cell()
    tags = [t.model_copy(update={"minus": ("force_n", "level_n")}) if t.minus else t for t in cell.tags]
    with pytest.raises(ConfigError, match=r"deviation_n.*are not both tags of group 'cycle'"):
        CellRows(Cell.model_validate({**cell.model_dump(), "tags": [t.model_dump() for t in tags]}))


@pytest.mark.parametrize(("late_rows", "first"), [(0, (1.0, 0)), (1, (1.0, HELD)), (10**6, (None, MISSING))])
def test_after_a_long_absence_only_the_last_rows_are_made(late_rows, first):
    """Was: a tick after a weekend closed every row of it at once: seconds without a heartbeat, thousands of facts."""
    until_s = CATCH_UP_ROWS_MAX + late_rows
    rows = rows_of(tick(0), [(LEVEL, at(0.5), 1.0)], [(LEVEL, at(until_s - 0.5), 2.0)], tick(until_s + 1))
    grid = [row for row in rows if row.group == "grid"]
    assert (len(grid), grid[0].start_at, grid[-1].end_at) == (CATCH_UP_ROWS_MAX, at(late_rows), at(until_s))
    assert (levels(rows)[0], levels(rows)[-1]) == (first, (2.0, 0))


def test_more_orders_of_tags_than_are_remembered_change_nothing(monkeypatch):
    few, many = CellRows(small_cell()), CellRows(small_cell())
    orders = [(LEVEL, TORQUE, FORCE), (999, FORCE), (TORQUE, LEVEL), (FORCE, 999, LEVEL, TORQUE)] * 3
    for cell_rows, remembered in ((few, 1), (many, 100)):
        monkeypatch.setattr("pipelines.features.cell_rows.DEALT_MAX", remembered)
        cell_rows.tick(tick(0))
        for k, order in enumerate(orders):
            cell_rows.take(batch([(tag, at(k + 0.1 * n), 10.0 + n) for n, tag in enumerate(order)]))
    assert few.unknown == many.unknown == 6
    closed = [[(r.end_at, r.values.tobytes(), r.flags.tobytes()) for r in c.tick(tick(20))] for c in (few, many)]
    assert closed[0] == closed[1] != []


# ---- a source that nobody hears any more


OLD, NEW = "opcua:c", "kafka:c"


class Moving:
    """Rows of a cell that is read from one source, then from another."""

    def __init__(self, rows: CellRows | None = None) -> None:
        self.cell_rows = rows or CellRows(small_cell())
        self.rows: list[Row] = []
        self.lost: list[Gap] = []

    def tick(self, source: str, after_s: float, *, taken_s: float | None = None, alive: bool = True) -> None:
        told = Tick(source, 1, 0, at(after_s), alive)
        self.lost += self.cell_rows.hear(at(after_s if taken_s is None else taken_s), told)
        self.rows += self.cell_rows.tick(told)

    def sample(self, source: str, *samples: tuple[int, int, float]) -> None:
        self.cell_rows.take(replace(batch(samples), source=source))

    def go_on(self, source: str, first_s: int, last_s: int) -> None:
        for second in range(first_s, last_s + 1):
            self.sample(source, (LEVEL, at(second - 0.5), float(second)))
            self.tick(source, second)


def moved_away(last_s: int) -> Moving:
    moving = Moving()
    moving.go_on(OLD, 0, 10)
    moving.go_on(NEW, 11, last_s)
    return moving


def test_rows_wait_for_a_silent_source_and_go_on_without_it_after_the_bound():
    bound_s = RETIRED_US // S
    waiting, going = moved_away(10 + bound_s - 1), moved_away(10 + bound_s)
    assert waiting.lost == []
    assert waiting.rows[-1].end_at == at(9)
    (lost,) = going.lost
    assert (lost.source, lost.from_at, lost.until_at) == (OLD, at(10), at(10 + bound_s))
    assert lost.reason == "silent: rows go on without it, by kafka:c"
    # Every row of the time in which they waited, each with what the new source gave.
    grid = [(row.end_at, float(row.values[0])) for row in going.rows if row.end_at > at(9)]
    assert grid == [(at(second), float(second)) for second in range(10, 10 + bound_s)]


def test_nothing_is_held_any_more_that_a_retired_source_gave():
    moving = Moving()
    moving.sample(OLD, (SP, at(0.5), 15.0), (COUNT, at(0.5), 1.0))
    moving.go_on(OLD, 0, 10)
    moving.go_on(NEW, 11, 75)
    moving.sample(NEW, (COUNT, at(75.5), 2.0))
    moving.tick(NEW, 78)
    (cycle,) = [row for row in moving.rows if row.group == "cycle"]
    assert math.isnan(cycle.values[cycle.tags.index("force_sp_n")])  # 15.0, held for ever, as if somebody stood for it
    moving.sample(NEW, (SP, at(78.5), 16.0), (COUNT, at(79.5), 3.0))
    moving.tick(NEW, 81)
    moving.sample(NEW, (COUNT, at(81.5), 4.0))
    moving.tick(NEW, 84)
    assert [row.values[row.tags.index("force_sp_n")] for row in moving.rows if row.group == "cycle"][1:] == [16.0] * 2


def test_a_lost_source_that_says_so_is_waited_for():
    moving = Moving()
    moving.go_on(OLD, 0, 10)
    for second in range(11, 200):
        moving.tick(OLD, 10, taken_s=second, alive=False)
        moving.tick(NEW, second)
    assert moving.lost == []
    assert moving.rows[-1].end_at == at(9)


def test_others_that_are_lost_themselves_retire_nobody():
    moving = Moving()
    moving.go_on(OLD, 0, 10)
    for second in range(11, 200):
        moving.tick(NEW, second, alive=False)
    assert moving.lost == []


@pytest.mark.parametrize("after_s", [3600.0, 1e6])
def test_a_stop_of_all_sources_and_a_clock_put_forward_retire_nobody(after_s):
    moving = Moving()
    moving.go_on(OLD, 0, 10)
    moving.go_on(NEW, 10, 10)
    for second in range(3):
        moving.tick(NEW, after_s + second)
    moving.tick(OLD, after_s + 3)
    assert moving.lost == []


def test_a_retired_source_counts_again_from_its_next_tick():
    moving = moved_away(80)
    moving.tick(OLD, 82)
    moving.go_on(NEW, 83, 90)
    assert moving.rows[-1].end_at == at(81)
    assert len(moving.lost) == 1


@pytest.mark.parametrize("cut_s", [11, 40, 69, 70, 75])
def test_silence_goes_on_from_a_snapshot_to_the_bit(cut_s):
    whole, first = moved_away(90), moved_away(cut_s)
    rest = Moving()
    rest.cell_rows.load(unpack(pack(first.cell_rows.state())))
    rest.go_on(NEW, cut_s + 1, 90)
    assert [r.values.tobytes() for r in first.rows + rest.rows] == [r.values.tobytes() for r in whole.rows]
    assert first.lost + rest.lost == whole.lost
    assert pack(rest.cell_rows.state()) == pack(whole.cell_rows.state())
