"""When a worker ends itself: messages wait, it has their partition, and the broker sees no commit."""

from __future__ import annotations

import pytest

from pipelines import detecting
from pipelines.detecting import Watchdog

STALLED_S = 60.0


@pytest.fixture
def clock(monkeypatch):
    """Wall time that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(detecting.time, "monotonic", lambda: now[0])
    return now


def looks(clock, ours, *each) -> list[list[int]]:
    """What it says at looks of (seconds later, committed, spans)."""
    watchdog, said = Watchdog({}, STALLED_S, lambda: ours), []
    for later_s, committed, spans in each:
        clock[0] += later_s
        said.append(watchdog._stalled(committed, spans))
    return said


def test_messages_that_wait_without_a_commit_for_so_long_are_a_stall(clock):
    assert looks(clock, {0}, (0, {0: 5}, {0: (0, 9)}), (60, {0: 5}, {0: (0, 9)}), (1, {0: 5}, {0: (0, 12)})) == [
        [], [], [0],
    ]  # fmt: skip


def test_a_commit_in_between_is_none(clock):
    assert (
        looks(clock, {0}, (0, {0: 5}, {0: (0, 9)}), (59, {0: 6}, {0: (0, 99)}), (59, {0: 6}, {0: (0, 99)})) == [[]] * 3
    )


def test_nothing_that_waits_is_none_however_long(clock):
    assert (
        looks(clock, {0}, (0, {0: 9}, {0: (0, 9)}), (600, {0: 9}, {0: (0, 9)}), (50, {0: 9}, {0: (0, 10)})) == [[]] * 3
    )


def test_a_partition_of_another_worker_is_not_ours_to_end_for(clock):
    assert looks(clock, {1}, (0, {}, {0: (0, 9)}), (600, {}, {0: (0, 9)})) == [[], []]


def test_who_was_dealt_nothing_ends_when_nobody_commits_what_waits(clock):
    """Was: a worker that Faust had left without partitions watched none, and stood there for ever."""
    waiting = {0: (0, 9), 1: (0, 9)}
    assert looks(clock, set(), (0, {0: 5, 1: 9}, waiting), (60, {0: 5, 1: 9}, waiting), (1, {0: 5, 1: 9}, waiting)) == [
        [], [], [0],
    ]  # fmt: skip


def test_who_was_dealt_nothing_stays_while_others_commit(clock):
    waiting = {0: (0, 900)}
    assert looks(clock, set(), *((30, {0: n}, waiting) for n in range(5))) == [[]] * 5


def test_a_partition_whose_messages_were_all_deleted_before_a_first_commit_is_no_stall(clock):
    """Was: 0 stood for never committed, and the worker ended itself for ever."""
    assert looks(clock, {0}, (0, {}, {0: (40, 40)}), (600, {}, {0: (40, 40)})) == [[], []]
