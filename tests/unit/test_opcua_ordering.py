"""The one order of a cell's input, and what counts as alive and as stale."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.opcua.liveness import Liveness
from connectors.ordering import BATCH_MAX, InputOrder, Sample
from schemas.samples import Gap, SampleBatch, Tick
from tests.opcua_plc import cell

SECOND = 1_000_000
ALL = frozenset({1, 2, 3, 4, 5})


def sample(at: int, value: float = 1.0, status: int = 0) -> Sample:
    return Sample(at, at, value, status)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 50)),
        st.tuples(st.just("tick"), st.integers(0, 50)),
        st.tuples(st.just("gap"), st.integers(0, 50)),
        st.tuples(st.just("packml"), st.integers(0, 17)),
    )
)


@given(STEPS)
def test_whatever_happens_numbers_are_gapless_and_no_sample_is_lost_or_moved_past_what_came_after(steps):
    order, out, added = InputOrder("s", 1), [], 0
    for step, number in steps:
        match step:
            case "add":
                out += order.add(7, sample(number))
                added += 1
            case "tick":
                out += order.tick(number, alive=True)
            case "gap":
                out += order.gap((), number, 25, "r")
            case _:
                out += order.packml(number, number)
        if step != "add":
            assert sum(len(item) for item in out if isinstance(item, SampleBatch)) == added
    assert [item.seq for item in out] == list(range(len(out)))
    complete = [item.complete_until for item in out if isinstance(item, Tick)]
    assert complete == sorted(complete)
    assert all(gap.from_at <= gap.until_at for gap in out if isinstance(gap, Gap))


def test_a_full_batch_leaves_at_once():
    order = InputOrder("s", 1)
    out = [item for n in range(BATCH_MAX + 1) for item in order.add(1, sample(n))]
    assert [len(batch) for batch in out] == [BATCH_MAX]
    assert out[0].source_at.tolist() == list(range(BATCH_MAX))


def watching() -> Liveness:
    liveness = Liveness(cell(), dead_after_s=3.0)
    liveness.begin(0)
    return liveness


def test_the_first_heartbeat_proves_nothing_and_the_first_change_does():
    liveness = watching()
    liveness.published(10.0)
    liveness.saw(4, sample(0, 5.0), received_at=0, wall_s=10.0)
    assert not liveness.alive()
    liveness.published(11.0)
    liveness.saw(4, sample(0, 6.0), received_at=0, wall_s=11.0)
    assert liveness.alive()


def test_a_heartbeat_that_stands_still_is_dead_after_the_bound_and_not_at_it():
    liveness = watching()
    for beat, wall_s in ((1.0, 10.0), (2.0, 11.0), (2.0, 14.0)):
        liveness.published(wall_s)
        liveness.saw(4, sample(0, beat), received_at=0, wall_s=wall_s)
    assert liveness.alive()
    liveness.published(14.01)
    assert not liveness.alive()


def test_a_bad_heartbeat_is_no_heartbeat():
    liveness = watching()
    for beat, status in ((1.0, 0), (2.0, 0x80000000)):
        liveness.published(10.0)
        liveness.saw(4, sample(0, beat, status), received_at=0, wall_s=10.0)
    assert not liveness.alive()


def test_a_cell_without_heartbeat_lives_while_the_server_publishes():
    liveness = Liveness(cell(plc_heartbeat=""), dead_after_s=3.0)
    assert not liveness.alive()
    liveness.published(1.0)
    assert liveness.alive()


def see_all(liveness: Liveness, at: int, *, but: int = 0) -> None:
    for tag in ALL - {but}:
        liveness.saw(tag, sample(at), received_at=at, wall_s=0.0)


def test_a_tag_that_is_not_collected_is_stale():
    liveness = watching()
    see_all(liveness, 0)
    assert liveness.stale(ALL - {2}, ALL, now=SECOND) == (2,)


def test_a_tag_that_never_came_is_stale_after_its_hold():
    liveness = watching()
    see_all(liveness, 0, but=3)
    assert liveness.stale(ALL, frozenset(), now=10 * SECOND) == ()
    assert liveness.stale(ALL, frozenset(), now=10 * SECOND + 1) == (3,)


def test_a_machine_that_stands_still_owes_nothing_and_one_that_cycles_owes_its_tags():
    liveness = watching()
    see_all(liveness, 0)
    assert 2 not in liveness.stale(ALL, ALL, now=100 * SECOND)
    liveness.saw(1, sample(11 * SECOND), received_at=11 * SECOND, wall_s=0.0)
    assert 2 in liveness.stale(ALL, ALL, now=100 * SECOND)


def test_an_unchanged_value_is_not_stale_where_the_server_does_not_report_it():
    liveness = watching()
    see_all(liveness, 0)
    assert liveness.stale(ALL, ALL, now=11 * SECOND) == (3, 4)
    assert liveness.stale(ALL, frozenset(), now=11 * SECOND) == ()
