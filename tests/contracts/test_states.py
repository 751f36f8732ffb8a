"""What every store of detector states must do. One suite, run over the table of stores."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from connectors.eventlog.postgres_states import PostgresStates
from connectors.eventlog.states import SqliteStates, StateStore
from schemas.errors import Fenced, LogCorrupt, LogError
from schemas.records import SavedState
from tests.eventlog_support import CELL, HOUSE, run
from tests.support.postgres import PostgresServer, backends_ended

BIG = bytes(range(256)) * 4 * 4096


@pytest.fixture(params=["sqlite", "postgres"])
def open_states(request: Any, tmp_path: Path) -> Callable[[], StateStore]:
    if request.param == "sqlite":
        return lambda: SqliteStates(tmp_path / "deep" / "states.sqlite")
    settings = request.getfixturevalue("postgres")
    return lambda: PostgresStates(settings)


@asynccontextmanager
async def opened(open_states: Callable[[], StateStore], stores_n: int) -> AsyncIterator[list[StateStore]]:
    stores = [open_states() for _ in range(stores_n)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


def contract(stores_n: int) -> Callable[[Callable[..., Any]], Callable[[Any], None]]:
    """Run an async test with so many stores of the same states, of each kind."""

    def decorated(test: Callable[..., Any]) -> Callable[[Any], None]:
        def wrapped(open_states: Any) -> None:
            async def go() -> None:
                async with opened(open_states, stores_n) as stores:
                    await test(*stores)

            run(go())

        wrapped.__name__ = test.__name__
        return wrapped

    return decorated


@contract(1)
async def test_a_cell_that_was_never_saved_has_no_state(states: StateStore) -> None:
    assert await states.load(CELL) is None


@contract(2)
async def test_another_process_loads_what_was_saved(states: StateStore, other: StateStore) -> None:
    saved = SavedState(10, 7, BIG)
    await states.save(CELL, saved, expected=0)
    await states.save("zelle/é漢", SavedState(3, 2, b""), expected=0)
    assert await other.load(CELL) == saved
    assert await other.load("zelle/é漢") == SavedState(3, 2, b"")


@contract(2)
async def test_who_lost_the_cell_is_fenced_and_nothing_is_written(states: StateStore, other: StateStore) -> None:
    await states.save(CELL, SavedState(10, 1, b"first"), expected=0)
    await other.save(CELL, SavedState(20, 2, b"second"), expected=10)
    with pytest.raises(Fenced, match="expected a state at 10, the one that is saved is at 20"):
        await states.save(CELL, SavedState(15, 3, b"stale"), expected=10)
    with pytest.raises(Fenced, match="expected a state at 0, the one that is saved is at 20"):
        await states.save(CELL, SavedState(15, 3, b"stale"), expected=0)
    with pytest.raises(Fenced, match="expected a state at 21, the one that is saved is at 20"):
        await states.save(CELL, SavedState(30, 3, b"ahead"), expected=21)
    with pytest.raises(Fenced, match="expected a state at 5, the one that is saved is at 0"):
        await states.save("nobody", SavedState(30, 3, b"ahead"), expected=5)
    assert await states.load(CELL) == SavedState(20, 2, b"second")
    assert await states.load("nobody") is None


@contract(1)
async def test_a_state_cannot_go_back(states: StateStore) -> None:
    with pytest.raises(ValueError, match="a state at 4 cannot follow one at 5"):
        await states.save(CELL, SavedState(4, 1, b""), expected=5)


@contract(4)
async def test_of_several_that_save_at_once_one_wins(*stores: StateStore) -> None:
    for expected in range(0, 40, 10):
        saves = [s.save(CELL, SavedState(expected + 10, k, BIG), expected=expected) for k, s in enumerate(stores)]
        results = await asyncio.gather(*saves, return_exceptions=True)
        winners = [k for k, result in enumerate(results) if result is None]
        assert len(winners) == 1
        assert [type(result) for result in results if result is not None] == [Fenced] * 3
        assert await stores[0].load(CELL) == SavedState(expected + 10, winners[0], BIG)


def test_several_processes_may_begin_at_once(open_states: Callable[[], StateStore]) -> None:
    async def go() -> None:
        stores = await asyncio.gather(*(asyncio.to_thread(open_states) for _ in range(8)))
        await asyncio.gather(*(s.save(f"cell{k}", SavedState(1, 1, b"x"), expected=0) for k, s in enumerate(stores)))
        assert await asyncio.gather(*(stores[0].load(f"cell{k}") for k in range(8))) == [SavedState(1, 1, b"x")] * 8
        for store in stores:
            await store.close()

    run(go())


@contract(1)
async def test_a_closed_store_says_so_and_can_be_closed_again(states: StateStore) -> None:
    await states.close()
    await states.close()
    with pytest.raises(LogError, match="closed"):
        await states.load(CELL)


_SAVING = """
import asyncio, sys
from pathlib import Path
from connectors.eventlog.states import SqliteStates
from schemas.records import SavedState

async def main():
    states, at = SqliteStates(Path(sys.argv[1])), 0
    while True:
        await states.save("cell", SavedState(at + 1, at, bytes([at % 256]) * 1_000_000), expected=at)
        at += 1
        print(at, flush=True)

asyncio.run(main())
"""


def test_a_killed_process_leaves_the_last_whole_state_it_saved(tmp_path: Path) -> None:
    path = tmp_path / "states.sqlite"
    process = subprocess.Popen([sys.executable, "-c", _SAVING, str(path)], stdout=subprocess.PIPE, cwd=HOUSE)
    assert process.stdout is not None
    with process.stdout:
        said = [process.stdout.readline() for _ in range(20)]
        process.kill()
        process.wait()
        said += process.stdout.read().splitlines(keepends=True)
    at = int([line for line in said if line.endswith(b"\n")][-1])

    async def look() -> None:
        async with opened(lambda: SqliteStates(path), 1) as (states,):
            state = await states.load("cell")
            assert state is not None
            assert state.position in (at, at + 1)
            assert state.data == bytes([state.offset % 256]) * 1_000_000

    run(look())


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(lambda: SqliteStates(tmp_path / "states.sqlite"), 1) as (states,):
            await states.save(CELL, SavedState(1, 1, b"whole"), expected=0)
            with closing(sqlite3.connect(tmp_path / "states.sqlite", isolation_level=None)) as db:
                db.execute("UPDATE states SET data = ?", (b"Whole",))
            with pytest.raises(
                LogCorrupt, match="the saved state of cell 'plant/hall/line/cell1' is damaged: delete it"
            ):
                await states.load(CELL)

    run(go())


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"hello" * 1000)
    with pytest.raises(LogError, match="file is not a database: see that it can be written, or name another file"):
        SqliteStates(tmp_path / "other")
    with closing(sqlite3.connect(tmp_path / "newer")) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(LogError, match="format 2, this program reads 1"):
        SqliteStates(tmp_path / "newer")


def test_a_lost_connection_is_made_again_and_the_save_is_done_once(
    postgres_server: PostgresServer, postgres: Any
) -> None:
    async def go() -> None:
        async with opened(lambda: PostgresStates(postgres), 1) as (states,):
            for at in range(3):
                backends_ended(postgres_server, postgres.database)
                await states.save(CELL, SavedState(at + 1, at, b"x"), expected=at)
            backends_ended(postgres_server, postgres.database)
            assert await states.load(CELL) == SavedState(3, 2, b"x")

    run(go())
