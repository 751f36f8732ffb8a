"""What every event store must do. One suite, run over the table of stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.ports import EventStore
from connectors.clock import VirtualClock
from connectors.eventlog.chain import genesis, link, signature_holds
from connectors.eventlog.memory import MemoryStore
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.sqlite import SqliteStore
from schemas.errors import Fenced, LogError
from schemas.records import Appended
from tests.eventlog_support import CELL, NOW_US, collect, facts_about, grow, run, state_fact

STORES = ("memory", "sqlite", "postgres")


@pytest.fixture(params=STORES)
def open_store(request: Any, tmp_path: Path) -> Callable[..., Any]:
    settings = request.getfixturevalue("postgres") if request.param == "postgres" else None

    async def made(clock: Any) -> Any:
        if settings is not None:
            return await PostgresStore.open(settings, tmp_path / "log", clock=clock)
        return (
            MemoryStore(clock=clock) if request.param == "memory" else SqliteStore.open(tmp_path / "log", clock=clock)
        )

    @asynccontextmanager
    async def opened(clock: Any = None) -> AsyncIterator[Any]:
        store = await made(clock or VirtualClock(NOW_US))
        try:
            yield store
        finally:
            await store.close()

    return opened


def contract(test: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Run an async test with a store of each kind."""

    def wrapped(open_store: Any) -> None:
        async def go() -> None:
            async with open_store() as store:
                await test(store)

        run(go())

    wrapped.__name__ = test.__name__
    return wrapped


@contract
async def test_it_satisfies_the_port(store: Any) -> None:
    as_port: EventStore = store
    assert (await as_port.head()).position == 0


@contract
async def test_facts_come_back_in_order_with_versions_and_positions_without_gaps(store: Any) -> None:
    await grow(store, (CELL, "other"), 5, facts_n=2)
    records = await collect(store.read_all())
    assert [r.position for r in records] == list(range(1, 11))
    assert [r.fact for r in records] == [state_fact(n) for n in range(10)]
    of_cell = await collect(store.read_cell(CELL))
    assert [r.version for r in of_cell] == [1, 2, 3, 4, 5, 6]
    assert [r.position for r in of_cell] == [1, 2, 5, 6, 9, 10]
    assert [r.type for r in of_cell] == ["line.state_changed/1"] * 6


@contract
async def test_reading_can_begin_after_any_version_or_position(store: Any) -> None:
    await grow(store, (CELL,), 4)
    assert [r.position async for r in store.read_all(after=3)] == [4]
    assert [r.version async for r in store.read_cell(CELL, after=2)] == [3, 4]
    assert await collect(store.read_all(after=4)) == []
    assert await collect(store.read_cell("nobody")) == []


@contract
async def test_take_raises_the_epoch_and_tells_version_and_input_positions(store: Any) -> None:
    first = await store.take(CELL)
    assert (first.epoch, first.version, first.positions) == (1, 0, {})
    await store.append(CELL, [state_fact(1)], expected=0, advance={"b": (0, 7), "a": (0, 3)}, epoch=1)
    second = await store.take(CELL)
    assert (second.epoch, second.version, second.positions) == (2, 1, {"a": 3, "b": 7})


@contract
async def test_second_writer_is_fenced_and_nothing_is_written(store: Any) -> None:
    stale = await store.take(CELL)
    await store.append(CELL, [state_fact(1)], expected=0, advance={"in": (0, 1)}, epoch=stale.epoch)
    fresh = await store.take(CELL)
    with pytest.raises(Fenced, match="epoch 1 writes, but the cell was taken with epoch 2"):
        await store.append(CELL, [state_fact(2)], expected=1, advance={"in": (1, 2)}, epoch=stale.epoch)
    assert len(await collect(store.read_all())) == 1
    assert (await store.take(CELL)).positions == {"in": 1}
    assert fresh.version == 1


@pytest.mark.parametrize(
    ("expected", "advance", "epoch", "message"),
    [
        (1, {}, 1, "expected version 1, the stream is at 2"),
        (3, {}, 1, "expected version 3, the stream is at 2"),
        (2, {"in": (1, 3)}, 1, "input 'in' would move from 1, but it is at 2"),
        (2, {"in": (2, 3), "new": (1, 2)}, 1, "input 'new' would move from 1, but it is at 0"),
        (2, {}, 0, "epoch 0 writes, but the cell was taken with epoch 1"),
        (2, {}, 2, "epoch 2 writes, but the cell was taken with epoch 1"),
    ],
)
def test_any_mismatch_is_fenced_with_its_numbers_and_nothing_is_written(
    open_store: Any, expected: int, advance: dict[str, tuple[int, int]], epoch: int, message: str
) -> None:
    async def go() -> None:
        async with open_store() as store:
            await grow(store, (CELL,), 2)
            with pytest.raises(Fenced, match=message):
                await store.append(CELL, [state_fact(9)], expected=expected, advance=advance, epoch=epoch)
            assert len(await collect(store.read_all())) == 2
            taken = await store.take(CELL)
            assert (taken.version, taken.positions) == (2, {"in": 2})

    run(go())


@contract
async def test_a_cell_that_nobody_took_cannot_be_written(store: Any) -> None:
    with pytest.raises(Fenced, match="nobody took it"):
        await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=0)


@contract
async def test_an_input_cannot_move_back(store: Any) -> None:
    await grow(store, (CELL,), 2)
    with pytest.raises(ValueError, match="cannot move from 2 to 1"):
        await store.append(CELL, [], expected=2, advance={"in": (2, 1)}, epoch=1)


@contract
async def test_input_positions_move_without_facts_too(store: Any) -> None:
    taken = await store.take(CELL)
    appended = await store.append(CELL, [], expected=0, advance={"in": (0, 5)}, epoch=taken.epoch)
    assert appended == Appended(version=0, position=0)
    assert (await store.take(CELL)).positions == {"in": 5}


@contract
async def test_each_record_says_how_far_its_inputs_were(store: Any) -> None:
    taken = await store.take(CELL)
    for to, source in ((1, "b"), (2, "a")):
        await store.append(CELL, [state_fact(to)], expected=to - 1, advance={source: (0, to)}, epoch=taken.epoch)
    assert [dict(r.inputs) for r in await collect(store.read_all())] == [{"b": 1}, {"a": 2, "b": 1}]


class HandClock:
    """A wall clock that somebody sets, also back."""

    us = 5

    def now_us(self) -> int:
        return self.us


def test_recorded_at_never_decreases_though_the_clock_does(open_store: Any) -> None:
    async def go() -> None:
        clock = HandClock()
        async with open_store(clock) as store:
            taken = await store.take(CELL)
            for version, clock.us in enumerate((5, 3, 9, 8)):
                await store.append(CELL, [state_fact(version)], expected=version, advance={}, epoch=taken.epoch)
            assert [r.recorded_at for r in await collect(store.read_all())] == [5, 5, 9, 9]

    run(go())


@contract
async def test_the_chain_links_every_record_to_the_log_and_the_head_signs_its_end(store: Any) -> None:
    await grow(store, (CELL, "other"), 6)
    chain = genesis(store.log_id)
    for r in await collect(store.read_all()):
        inputs = b'{"in":%d}' % r.inputs["in"]
        chain = link(chain, r.position, r.cell.encode(), r.version, r.type.encode(), r.recorded_at, inputs, r.data)
        assert r.chain == chain
    head = await store.head()
    assert (head.log_id, head.position, head.chain) == (store.log_id, 6, chain)
    assert signature_holds(head, head.public_key)


@contract
async def test_many_callers_at_once_are_all_stored_and_each_conflicts_on_its_own(store: Any) -> None:
    cells = [f"cell{n}" for n in range(40)]
    for cell in cells:
        await store.take(cell)

    async def one(number: int) -> str:
        expected = 0 if number % 4 else 7
        try:
            await store.append(cells[number], [state_fact(number)], expected=expected, advance={}, epoch=1)
        except Fenced:
            return "fenced"
        return "stored"

    results = await asyncio.gather(*map(one, range(40)))
    assert results == ["stored" if number % 4 else "fenced" for number in range(40)]
    stored = [r.cell for r in await collect(store.read_all())]
    assert sorted(stored) == sorted(cells[n] for n in range(40) if n % 4)


@contract
async def test_of_two_appends_of_the_same_version_at_once_one_wins(store: Any) -> None:
    await store.take(CELL)
    calls = [store.append(CELL, [state_fact(n)], expected=0, advance={}, epoch=1) for n in range(2)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(r) for r in results] == [Appended, Fenced]
    assert len(await collect(store.read_all())) == 1


@contract
async def test_a_follower_sees_what_is_appended_later_and_ends_with_the_store(store: Any) -> None:
    await grow(store, (CELL,), 2)
    seen: list[int] = []

    async def follow() -> None:
        async for record in store.read_all(after=1, follow=True):
            seen.append(record.position)

    follower = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await grow(store, (CELL,), 3)
    async with asyncio.timeout(10):
        while len(seen) < 4:
            await asyncio.sleep(0.001)
    await store.close()
    async with asyncio.timeout(10):
        await follower
    assert seen == [2, 3, 4, 5]


@contract
async def test_facts_are_found_by_the_ids_they_speak_of(store: Any) -> None:
    await store.take(CELL)
    facts = [*facts_about("incident-1", "command-1"), *facts_about("incident-2", "command-2")]
    await store.append(CELL, facts, expected=0, advance={}, epoch=1)
    assert await store.positions_of("incident-1") == [1, 2, 3]
    assert await store.positions_of("command-2") == [6]
    assert await store.positions_of("incident-") == [1, 2, 3, 4, 5, 6]
    assert await store.positions_of("plan") == [3, 6]
    assert await store.positions_of("incident-3") == []
    assert [r.position for r in await store.read_at([6, 2, 99])] == [6, 2]
    with pytest.raises(ValueError, match="empty prefix"):
        await store.positions_of("")


@contract
async def test_a_closed_store_takes_nothing_and_can_be_closed_again(store: Any) -> None:
    await store.take(CELL)
    await store.close()
    await store.close()
    with pytest.raises(LogError, match="closed"):
        await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
    with pytest.raises(LogError, match="closed"):
        await store.take(CELL)
