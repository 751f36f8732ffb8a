"""A partition in a worker's hands: what it gives, when it is safe, and what another worker makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from connectors.eventlog.states import SqliteStates
from connectors.kafka.codec import Message
from pipelines.stages.observed import Acceptance
from pipelines.stages.partition import Partition
from schemas.errors import CodecError, Fenced
from schemas.facts import AnomalyDetected, CalibrationAdopted
from schemas.observations import Delivered, Observation, encode_observation
from tests.support.staged import CELL, RULES, MemoryStates, message, poisoned, story

SNAPSHOT_US = 20_000_000


def partition(
    states, *, last_given: int = 0, said: list[str] | None = None, rules=None, end: int | None = None
) -> Partition:
    async def last(cell: str) -> int:
        return last_given

    return Partition(
        {CELL.path: RULES} if rules is None else rules,
        states,
        snapshot_bytes=10_000,
        snapshot_us=SNAPSHOT_US,
        last_given=last,
        warn=(said if said is not None else []).append,
        end=lambda: end,
    )


async def nothing() -> None:
    """Everything is acknowledged."""


async def feed(part: Partition, messages: Sequence[Message], *, first: int = 0, save: bool = True) -> list[Observation]:
    given = []
    for offset, each in enumerate(messages, first):
        seen = await part.take(offset, each.key, each.value, each.headers)
        given += [s.observation for s in seen if s.observation is not None]
        if save and part.due:
            assert await part.save(nothing) == offset + 1
    return given


def coded(observations: Sequence[Observation]) -> list[bytes]:
    return [encode_observation(each) for each in observations]


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return [message(kept) for kept in story()]


def test_the_story_is_one(messages):
    given = asyncio.run(feed(partition(MemoryStates()), messages))
    kinds = {type(fact) for observation in given for fact in observation.facts}
    assert {AnomalyDetected, CalibrationAdopted} <= kinds
    assert [o.after for o in given] == [0, *[o.position for o in given[:-1]]]
    assert any(o.snapshot for o in given)


@pytest.mark.parametrize("dies_at", range(3, 120, 13))
def test_another_worker_gives_the_same_from_where_the_states_are(messages, dies_at, tmp_path):
    async def go() -> tuple[list[Observation], int]:
        states = SqliteStates(tmp_path / "states")
        try:
            first = partition(states)
            given = await feed(first, messages[:dies_at])
            second = partition(states)
            return given + await feed(second, messages[first.committed :], first=first.committed), first.committed
        finally:
            await states.close()

    undisturbed = asyncio.run(feed(partition(MemoryStates()), messages))
    given, committed = asyncio.run(go())
    assert committed <= dies_at
    acceptance = Acceptance({})
    accepted = [o for n, o in enumerate(given) if acceptance.accepts(Delivered(n, o)) and not acceptance.broken]
    assert coded(accepted) == coded(undisturbed)


def test_what_was_taken_is_not_taken_again(messages):
    async def go() -> None:
        part = partition(MemoryStates())
        await feed(part, messages[:30])
        assert await feed(part, messages[:30]) == []

    asyncio.run(go())


def test_a_worker_that_was_overtaken_is_fenced_and_its_state_is_not_stored(messages):
    async def go() -> None:
        states = MemoryStates()
        slow, quick = partition(states), partition(states)
        await feed(slow, messages[:20], save=False)
        await feed(quick, messages[:30], save=False)
        await quick.save(nothing)
        with pytest.raises(Fenced):
            await slow.save(nothing)
        assert states.saved[CELL.path].offset == 29

    asyncio.run(go())


def test_nothing_is_committed_before_all_is_acknowledged(messages):
    class Lost(Exception):
        pass

    async def lost() -> None:
        raise Lost

    async def go() -> None:
        states = MemoryStates()
        part = partition(states)
        await feed(part, messages[:20], save=False)
        with pytest.raises(Lost):
            await part.save(lost)
        assert (part.committed, states.saved) == (0, {})

    asyncio.run(go())


def test_poison_is_told_and_what_comes_after_it_goes_on(messages):
    async def go() -> None:
        rng, part, told = np.random.default_rng(0), partition(MemoryStates()), 0
        for n, each in enumerate(messages):
            bad = poisoned(rng, each)
            try:
                assert await part.take(2 * n, bad.key, bad.value, bad.headers) == []
            except CodecError:
                told += 1
            await part.take(2 * n + 1, each.key, each.value, each.headers)
        assert told == len(messages)
        assert part.next_offset == 2 * len(messages)

    asyncio.run(go())


def test_a_collector_with_another_tag_table_is_refused_and_the_remedy_is_named(messages):
    async def go() -> None:
        part = partition(MemoryStates())
        other = message(story()[0], tags="f" * 64)
        with pytest.raises(CodecError, match=r"another plant\.toml .* give both the same file"):
            await part.take(0, other.key, other.value, other.headers)

    asyncio.run(go())


def test_a_cell_that_is_not_ours_is_passed_over_and_told_once(messages):
    async def go() -> None:
        said: list[str] = []
        part = partition(MemoryStates(), said=said, rules={})
        with pytest.raises(CodecError, match=f"{CELL.path}: not in plant.toml"):
            await feed(part, messages[:1])
        assert await feed(part, messages[1:5], first=1) == []
        assert (part.passed_over, part.next_offset, said) == (5, 5, [])

    asyncio.run(go())


def test_without_a_state_numbers_go_on_behind_the_last_that_was_given(messages):
    (first, *_) = asyncio.run(feed(partition(MemoryStates(), last_given=77), messages))
    assert first.position > 77


def test_a_state_that_cannot_be_used_lets_the_detectors_begin_anew_behind_it(messages):
    async def go() -> tuple[list[Observation], list[str]]:
        states, said = MemoryStates(), []
        before = partition(states)
        given = await feed(before, messages[:60], save=False)
        await before.save(nothing)
        saved = states.saved[CELL.path]
        memory = msgspec.msgpack.decode(saved.data)
        memory["detection"] = b"something else"
        states.saved[CELL.path] = type(saved)(saved.position, saved.offset, msgspec.msgpack.encode(memory))
        given += await feed(partition(states, said=said), messages[60:], first=60)
        return given, said

    given, said = asyncio.run(go())
    assert "begin anew" in said[0]
    acceptance, broken = Acceptance({}), []
    for n, observation in enumerate(given):
        assert acceptance.accepts(Delivered(n, observation))
        broken += [acceptance.broken] if acceptance.broken else []
    assert len(broken) == 1
    assert "began anew" in broken[0]


@pytest.mark.parametrize(("end", "told_n"), [(61, 1), (121, 0)])
def test_a_state_from_behind_the_end_of_the_topic_goes_on_at_once_with_what_is_there(messages, end, told_n):
    """Was: in a topic that was made anew, every message counted as taken until it was as long as the old one."""

    async def go() -> tuple[list[Observation], list[str]]:
        states, said = MemoryStates(), []
        first = partition(states)
        given = await feed(first, messages[:60], first=61)
        await first.save(nothing)
        # The topic has now what came last, and what came since.
        again = await feed(partition(states, end=end, said=said), messages[40:], first=0 if told_n else 101)
        return given + again, said

    given, said = asyncio.run(go())
    expected = asyncio.run(feed(partition(MemoryStates()), messages))
    # Beside where the memory is handed on: what came twice counts for that.
    assert [(o.after, o.position, o.facts) for o in given] == [(o.after, o.position, o.facts) for o in expected]
    assert [("ends at 61" in each) for each in said] == [True] * told_n
