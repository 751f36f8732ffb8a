"""A connection to PostgreSQL that is lost around a COMMIT: what was answered is what is stored, once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_connect import connect
from connectors.eventlog.postgres_standstill import end_standstill
from connectors.eventlog.postgres_tables import make_ready
from connectors.eventlog.postgres_verify import verify_postgres
from connectors.eventlog.postgres_writing import LOCK
from schemas.errors import Fenced, LogError, LogHalted
from schemas.records import Appended, Taken
from schemas.settings import PostgresSettings
from tests.eventlog_support import CELL, clock, collect, run, state_fact
from tests.support.cutting import Cut, Wire, wire_to
from tests.support.postgres import PostgresServer, backends_ended


@pytest.fixture
def settings(postgres: PostgresSettings) -> PostgresSettings:
    return postgres.model_copy(update={"timeout_s": 1.0})


@pytest.fixture
def wire(postgres_server: PostgresServer) -> Iterator[Wire]:
    with wire_to(postgres_server.port) as laid:
        yield laid


@asynccontextmanager
async def opened(settings: PostgresSettings, folder: Path, port: int = 0) -> AsyncIterator[PostgresStore]:
    through = settings.model_copy(update={"port": port or settings.port})
    async with await PostgresStore.open(through, folder / "log", clock=clock()) as store:
        yield store


async def assert_stored(settings: PostgresSettings, folder: Path, numbers: list[int]) -> None:
    async with opened(settings, folder) as store:
        assert [r.fact.number for r in await collect(store.read_all())] == numbers
    assert verify_postgres(settings, folder / "log").ok


async def release_soon(wire: Wire) -> None:
    await asyncio.sleep(0.4)
    wire.release.set()


@pytest.mark.parametrize("cut", ["before", "after", "late", "hang", "farewell"])
def test_an_append_whose_commit_was_cut_is_stored_once_and_says_so(
    settings: PostgresSettings, wire: Wire, tmp_path: Path, cut: Cut
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path, wire.port) as store:
            taken = await store.take(CELL)
            await store.append(CELL, [state_fact(1)], expected=0, advance={"in": (0, 1)}, epoch=taken.epoch)
            wire.armed = cut
            releasing = asyncio.create_task(release_soon(wire))
            said = await store.append(CELL, [state_fact(2)], expected=1, advance={"in": (1, 2)}, epoch=taken.epoch)
            assert (said, wire.cuts_n) == (Appended(2, 2), 1)
            await releasing
            await store.append(CELL, [state_fact(3)], expected=2, advance={"in": (2, 3)}, epoch=taken.epoch)
        await assert_stored(settings, tmp_path, [1, 2, 3])

    run(go())


@pytest.mark.parametrize("cut", ["before", "after", "late"])
def test_a_take_whose_commit_was_cut_raises_the_epoch_once(
    settings: PostgresSettings, wire: Wire, tmp_path: Path, cut: Cut
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path, wire.port) as store:
            await store.take(CELL)
            wire.armed = cut
            releasing = asyncio.create_task(release_soon(wire))
            assert await store.take(CELL) == Taken(2, 0, {})
            await releasing
            assert await store.take(CELL) == Taken(3, 0, {})

    run(go())


def test_every_caller_of_a_group_whose_commit_was_cut_gets_its_own_answer(
    settings: PostgresSettings, wire: Wire, tmp_path: Path
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path, wire.port) as store:
            cells = [f"cell{n}" for n in range(12)]
            for cell in cells:
                await store.take(cell)
            wire.armed = "after"
            calls = [
                store.append(cell, [state_fact(n)], expected=7 * (n % 3 == 0), advance={}, epoch=1)
                for n, cell in enumerate(cells)
            ]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(r) for r in results] == [Fenced, Appended, Appended] * 4
            assert len(await collect(store.read_all())) == 8

    run(go())


def test_a_commit_of_which_nobody_can_tell_halts_the_store(
    settings: PostgresSettings, wire: Wire, tmp_path: Path
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path, wire.port) as store:
            await store.take(CELL)
            wire.armed, wire.refuses = "after", True
            with pytest.raises(LogHalted, match="nobody knows whether it was committed"):
                await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
            wire.refuses = False
            with pytest.raises(LogHalted, match="Nothing more is accepted until the log is opened again"):
                await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
            with pytest.raises(LogHalted):
                await store.take("another cell")
            assert len(await collect(store.read_all())) == 1
        await assert_stored(settings, tmp_path, [1])

    run(go())


def test_a_server_that_is_away_too_long_before_the_commit_is_an_error_and_nothing_is_written(
    settings: PostgresSettings, wire: Wire, tmp_path: Path
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path, wire.port) as store:
            await store.take(CELL)
            wire.refuse_all()
            with pytest.raises(LogError, match="no answer within timeout_s = 1") as caught:
                await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
            assert not isinstance(caught.value, LogHalted)
            with pytest.raises(LogError, match="no answer within timeout_s = 1"):
                await collect(store.read_all())
            wire.refuses = False
            assert await collect(store.read_all()) == []
            await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
        await assert_stored(settings, tmp_path, [1])

    run(go())


def test_connections_that_an_administrator_ends_are_made_again(
    postgres_server: PostgresServer, settings: PostgresSettings, tmp_path: Path
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path) as store:
            await store.take(CELL)
            for n in range(3):
                await asyncio.to_thread(backends_ended, postgres_server, settings.database)
                await store.append(CELL, [state_fact(n)], expected=n, advance={}, epoch=1)
                assert len(await collect(store.read_cell(CELL))) == n + 1

    run(go())


def test_a_node_that_stands_still_in_a_transaction_holds_the_others_for_a_bounded_time(
    settings: PostgresSettings, tmp_path: Path
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path) as store:
            await store.take(CELL)
            still = connect(settings, writes=True)
            still.execute("BEGIN")
            still.execute(LOCK)
            began = time.monotonic()
            await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
            assert time.monotonic() - began > 0.5
            with pytest.raises(Exception, match="idle-in-transaction"):
                still.execute("SELECT 1")
            still.close()

    run(go())


def test_a_node_that_stands_still_in_the_middle_of_its_statements_is_ended_by_who_waits_for_it(
    settings: PostgresSettings, tmp_path: Path
) -> None:
    """To the server it is busy, not idle: it has said what to do next, and not yet that this was all."""

    async def go() -> None:
        async with opened(settings, tmp_path) as store:
            await store.take(CELL)
            still = connect(settings, writes=True)
            appended = None
            with contextlib.suppress(psycopg.OperationalError), still.pipeline():
                still.execute("BEGIN")
                still.execute(LOCK).fetchall()
                await asyncio.sleep(2 * settings.timeout_s)
                appended = await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
            assert appended is not None
            assert still.broken

    run(go())


def test_nobody_is_ended_who_is_at_work_or_holds_nothing(settings: PostgresSettings) -> None:
    with connect(settings, writes=True) as other, connect(settings, writes=True) as asking:
        make_ready(asking, settings)
        with other.pipeline():
            other.execute("BEGIN")
            other.execute("SELECT 1").fetchall()
            time.sleep(1.5)
            assert end_standstill(asking, settings) == []
            other.execute("COMMIT")


@pytest.mark.parametrize(
    ("cancelled", "said"),
    [(True, "committed, but the server warns: canceling wait for synchronous"), (False, "nobody knows whether it was")],
)
def test_a_copy_that_was_waited_for_in_vain_is_not_acknowledged(
    postgres_server: PostgresServer, settings: PostgresSettings, tmp_path: Path, cancelled: bool, said: str
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path) as store:
            await store.take(CELL)
            set_standbys(postgres_server, "nobody")
            try:
                appending = asyncio.create_task(store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1))
                if cancelled:
                    await asyncio.to_thread(cancel_the_wait, postgres_server, settings.database)
                with pytest.raises(LogHalted, match=said):
                    await appending
            finally:
                set_standbys(postgres_server, "")
        await assert_stored(settings, tmp_path, [1])

    run(go())


def cancel_the_wait(server: PostgresServer, database: str) -> None:
    query = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = %s AND wait_event = 'SyncRep'"
    until = time.monotonic() + 10
    with server.admin() as db:
        while db.execute(query, (database,)).fetchone() is None:
            assert time.monotonic() < until
            time.sleep(0.01)


def set_standbys(server: PostgresServer, names: str) -> None:
    with server.admin() as db:
        db.execute("SET synchronous_commit = local")
        db.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        db.execute("SELECT pg_reload_conf()")
    until = time.monotonic() + 10
    while True:
        with server.admin() as db:
            if db.execute("SHOW synchronous_standby_names").fetchone() == (names,):
                return
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_the_server_refuses_halts_the_store_and_nothing_is_written(
    postgres_server: PostgresServer, settings: PostgresSettings, tmp_path: Path
) -> None:
    async def go() -> None:
        async with opened(settings, tmp_path) as store:
            await store.take(CELL)
            with postgres_server.admin(settings.database) as db:
                db.execute("ALTER TABLE jidoka.events ADD CHECK (position <> 2) NOT VALID")
            await store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1)
            with pytest.raises(LogHalted, match="violates check constraint"):
                await store.append(CELL, [state_fact(2)], expected=1, advance={}, epoch=1)
            assert len(await collect(store.read_all())) == 1

    run(go())


def test_a_caller_that_gives_up_does_not_disturb_the_others(settings: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> Any:
        async with opened(settings, tmp_path) as store:
            await store.take(CELL)
            leaver = asyncio.create_task(store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1))
            await asyncio.sleep(0)
            leaver.cancel()
            assert (await store.take("cell2")).version == 0
            assert (await store.take(CELL)).version in (0, 1)

    run(go())
    assert verify_postgres(settings, tmp_path / "log").ok
