"""A cell's messages in the order of their sources: what is repeated, early, missing or of another start."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.stages.sequence import WAIT_MAX, WAIT_US, Sequence
from pipelines.stages.sequence_memory import recall, remember
from schemas.samples import AGENT, Control, Gap, Tick

SECOND = 1_000_000
CELL, TAGS = "a/b/c/d/e", "0" * 64


def tick(seq: int, epoch: int = 1, source: str = "s") -> Tick:
    return Tick(source, epoch, seq, complete_until=seq * SECOND, alive=True)


def given_out(sequence: Sequence, messages: list[tuple[int, Tick]]) -> list[tuple[str, int, int]]:
    """What came out, as (kind, epoch, seq)."""
    out = [kept for at, message in messages for kept in sequence.take(at, message)]
    assert [kept.position for kept in out] == list(range(1, len(out) + 1))
    assert all(a.at_us <= b.at_us for a, b in pairwise(out))
    return [(type(kept.input).__name__, kept.input.epoch, kept.input.seq) for kept in out]


def test_messages_in_order_go_through_with_their_time():
    sequence = Sequence()
    assert given_out(sequence, [(n, tick(n)) for n in range(3)]) == [("Tick", 1, n) for n in range(3)]
    assert (sequence.position, sequence.at_us) == (3, 2)


def test_a_repeated_message_is_dropped_and_counted():
    sequence = Sequence()
    assert given_out(sequence, [(0, tick(0)), (1, tick(1)), (2, tick(0)), (3, tick(1)), (4, tick(2))]) == [
        ("Tick", 1, 0), ("Tick", 1, 1), ("Tick", 1, 2),
    ]  # fmt: skip
    assert sequence.counts.repeated == 2


def test_an_early_message_waits_for_those_before_it():
    sequence = Sequence()
    messages = [(0, tick(0)), (1, tick(3)), (2, tick(2)), (3, tick(1)), (4, tick(4))]
    assert given_out(sequence, messages) == [("Tick", 1, n) for n in range(5)]
    assert sequence.counts.missing == 0


def test_what_never_comes_is_told_as_a_gap_once_another_waited_long_enough():
    sequence = Sequence()
    assert given_out(sequence, [(0, tick(0)), (1, tick(2)), (1 + WAIT_US, tick(3))]) == [("Tick", 1, 0)]
    (gap, two, three, four) = sequence.take(2 + WAIT_US, tick(4))
    assert gap.input == Gap("s", 1, 1, (), 1, 1, "messages 1 to 1 of epoch 1 never came")
    assert [kept.input.seq for kept in (two, three, four)] == [2, 3, 4]
    assert sequence.counts.missing == 1


def test_a_gap_reaches_from_what_was_complete_to_the_first_that_came():
    sequence = Sequence()
    sequence.take(10 * SECOND, tick(9))
    sequence.take(13 * SECOND, tick(12))
    gap = sequence.take(16 * SECOND, tick(13))[0].input
    assert (gap.from_at, gap.until_at) == (9 * SECOND, 13 * SECOND)


@pytest.mark.parametrize(("waiting", "told"), [(WAIT_MAX, False), (WAIT_MAX + 1, True)])
def test_no_more_than_so_many_wait(waiting, told):
    sequence = Sequence()
    sequence.take(0, tick(0))
    out = [kept for n in range(waiting) for kept in sequence.take(1, tick(2 + n))]
    assert bool(out) is told
    assert all(isinstance(kept.input, Gap) is (n == 0) for n, kept in enumerate(out))


def test_a_source_that_began_again_is_followed_and_its_old_messages_are_dropped():
    sequence = Sequence()
    messages = [(0, tick(5)), (1, tick(0, epoch=2)), (2, tick(6)), (3, tick(1, epoch=2))]
    assert given_out(sequence, messages) == [("Tick", 1, 5), ("Tick", 2, 0), ("Tick", 2, 1)]
    assert sequence.counts.repeated == 1


def test_what_waited_in_an_old_epoch_is_given_before_the_new_one_begins():
    sequence = Sequence()
    messages = [(0, tick(0)), (1, tick(2)), (2, tick(0, epoch=2))]
    assert given_out(sequence, messages) == [("Tick", 1, 0), ("Gap", 1, 1), ("Tick", 1, 2), ("Tick", 2, 0)]


def test_the_agents_own_input_leaves_no_gap_in_the_samples():
    sequence = Sequence()
    control = [Control(AGENT, 3, seq, "rebaseline", ()) for seq in (0, 2, 3)]
    sequence.take(0, control[0])
    sequence.take(1, control[1])
    assert [kept.input.seq for kept in sequence.take(2 + WAIT_US, control[2])] == [2, 3]


def test_sources_do_not_wait_for_each_other():
    sequence = Sequence()
    sequence.take(0, tick(0, source="a"))
    assert sequence.take(1, tick(2, source="a")) == []
    assert [kept.input.source for kept in sequence.take(9 * SECOND, tick(0, source="b"))] == ["b"]


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), max_size=8), st.integers(0, 20))
def test_any_order_with_any_repetition_comes_out_in_order_and_the_same_after_a_restart(order, again, cut):
    """Within the window nothing is lost, and a sequence that was remembered goes on as if nothing had been."""
    messages = [(0, tick(0)), *((1, tick(1 + n)) for n in [*order, *again])]
    whole, parted = Sequence(), Sequence()
    expected = given_out(whole, messages)
    assert expected == [("Tick", 1, n) for n in range(13)]
    out = [kept for at, m in messages[:cut] for kept in parted.take(at, m)]
    parted = recall(remember(parted, CELL, TAGS))
    out += [kept for at, m in messages[cut:] for kept in parted.take(at, m)]
    assert [(type(k.input).__name__, k.input.epoch, k.input.seq) for k in out] == expected


@given(st.integers(0, 2**32), st.floats(0.0, 0.4))
def test_every_message_comes_out_or_is_told_missing(seed, loss):
    rng = np.random.default_rng(seed)
    sent = [n for n in range(200) if n == 0 or n == 199 or rng.random() >= loss]
    sequence = Sequence()
    out = [kept.input for n in sent for kept in sequence.take(n * SECOND, tick(n))]
    out += [kept.input for n in range(200, 204) for kept in sequence.take(n * SECOND, tick(n))]
    assert [m.seq for m in out if isinstance(m, Tick)] == [*sent, 200, 201, 202, 203]
    assert sequence.counts.missing == 200 - len(sent)
