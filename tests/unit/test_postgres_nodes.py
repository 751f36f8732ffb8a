"""Several nodes on one log in PostgreSQL: one chain, one order, and what each node holds against the database."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.clock import VirtualClock
from connectors.eventlog.keys import load_public_key
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_connect import connect
from connectors.eventlog.postgres_reader import PostgresReader
from connectors.eventlog.postgres_standstill import end_standstill
from connectors.eventlog.postgres_verify import verify_postgres
from connectors.eventlog.postgres_writing import LOCK
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.verify import verify
from schemas.errors import Fenced, LogCorrupt, LogError
from schemas.facts import OperatorRequested
from schemas.settings import PostgresSettings, User
from tests.eventlog_support import CELL, HOUSE, clock, collect, grow, run, state_fact
from tests.support.postgres import PASSWORD, PostgresServer


@asynccontextmanager
async def nodes(settings: PostgresSettings, folder: Path, *names: str) -> AsyncIterator[list[PostgresStore]]:
    opened = [await PostgresStore.open(settings, folder / name, clock=clock()) for name in names]
    try:
        yield opened
    finally:
        for store in opened:
            await store.close()


def test_nodes_that_append_at_once_write_one_chain(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a", "b", "c") as stores:
            await asyncio.gather(*(grow(s, (f"cell{k}", f"cell{k}'"), 30) for k, s in enumerate(stores)))
            records = await collect(stores[1].read_all())
            assert [r.position for r in records] == list(range(1, 91))
            heads = [await store.head() for store in stores]
            assert {(head.position, head.chain) for head in heads} == {(90, records[-1].chain)}
        for name in "abc":
            result = verify_postgres(postgres, tmp_path / name)
            assert (result.ok, result.checked_n) == (True, 90)
            assert result.head == heads[0]

    run(go())


def test_nodes_that_begin_a_log_at_once_make_one(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        opening = [PostgresStore.open(postgres, tmp_path / f"node{k}", clock=clock()) for k in range(6)]
        stores = await asyncio.gather(*opening)
        assert len({store.log_id for store in stores}) == 1
        for store in stores:
            await store.close()

    run(go())


def test_a_node_that_takes_a_cell_fences_the_other(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a", "b") as (a, b):
            await a.take(CELL)
            await a.append(CELL, [state_fact(1)], expected=0, advance={"in": (0, 1)}, epoch=1)
            taken = await b.take(CELL)
            assert (taken.epoch, taken.version, taken.positions) == (2, 1, {"in": 1})
            with pytest.raises(Fenced, match="epoch 1 writes, but the cell was taken with epoch 2"):
                await a.append(CELL, [state_fact(2)], expected=1, advance={"in": (1, 2)}, epoch=1)
            await b.append(CELL, [state_fact(2)], expected=1, advance={"in": (1, 2)}, epoch=2)
            assert len(await collect(a.read_cell(CELL))) == 2

    run(go())


def test_recorded_at_never_decreases_though_the_nodes_clocks_differ(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        ahead = await PostgresStore.open(postgres, tmp_path / "a", clock=VirtualClock(9))
        behind = await PostgresStore.open(postgres, tmp_path / "b", clock=VirtualClock(5))
        async with ahead, behind:
            await grow(behind, ("b",), 1)
            await grow(ahead, ("a",), 1)
            await grow(behind, ("b",), 1)
            assert [r.recorded_at for r in await collect(behind.read_all())] == [5, 9, 9]

    run(go())


def test_a_reader_on_another_node_follows_what_is_written(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a") as (a,), PostgresReader(postgres) as reader:
            growing = asyncio.create_task(grow(a, (CELL,), 30))
            seen = []
            async with asyncio.timeout(20):
                async for record in reader.read_all(follow=True):
                    seen.append(record.position)
                    if len(seen) == 30:
                        break
            await growing
            assert seen == list(range(1, 31))

    run(go())


def test_a_second_process_of_a_node_is_refused(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a"):
            with pytest.raises(LogError, match=r"log\.lock: process \d+ writes this log already"):
                await PostgresStore.open(postgres, tmp_path / "a", clock=clock())
        async with nodes(postgres, tmp_path, "a"):
            pass

    run(go())


def test_death_between_commit_and_head_file_is_mended_at_the_next_start(
    postgres: PostgresSettings, tmp_path: Path
) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a") as (a,):
            await grow(a, (CELL,), 3)
            shutil.copy(tmp_path / "a" / "log.head", tmp_path / "head before")
            await grow(a, (CELL,), 2)
        shutil.copy(tmp_path / "head before", tmp_path / "a" / "log.head")
        assert verify_postgres(postgres, tmp_path / "a").ok
        async with nodes(postgres, tmp_path, "a") as (a,):
            assert a.notes == ("log.head was 2 records behind: the process ended between commit and head; mended",)
        async with nodes(postgres, tmp_path, "a") as (a,):
            assert a.notes == ()

    run(go())


def test_a_database_put_back_to_an_older_copy_is_found_by_the_nodes_own_head(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    settings = postgres_server.new_database()
    older = settings.model_copy(update={"database": f"{settings.database}_older"})

    async def go() -> None:
        async with nodes(settings, tmp_path, "a", "b") as (a, _):
            await grow(a, (CELL,), 3)
        with postgres_server.admin() as db:
            db.execute(f'CREATE DATABASE "{older.database}" TEMPLATE "{settings.database}"')
        async with nodes(settings, tmp_path, "a") as (a,):
            await grow(a, (CELL,), 2)
        assert verify_postgres(older).ok  # Honest: the database alone cannot tell.
        result = verify_postgres(older, tmp_path / "a")
        assert (result.position, result.kind) == (4, "cut")
        with pytest.raises(LogCorrupt, match="ends at 3, this node's head at 5"):
            await PostgresStore.open(older, tmp_path / "a", clock=clock())
        async with nodes(older, tmp_path, "b"):
            pass  # Honest: this node was not there when the rest was written.

    run(go())


def test_another_database_in_its_place_is_refused(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with postgres_server.database() as one, postgres_server.database() as other:

        async def go() -> None:
            async with nodes(one, tmp_path, "a") as (a,):
                await grow(a, (CELL,), 3)
            with pytest.raises(LogCorrupt, match="name the right database, or begin with an empty"):
                await PostgresStore.open(other, tmp_path / "a", clock=clock())
            assert verify_postgres(other, tmp_path / "a").kind == "head_of_another_log"

        run(go())


def test_a_folder_that_has_a_log_of_its_own_is_refused_by_that_name(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        async with SqliteStore.open(tmp_path / "log", clock=clock()) as store:
            await grow(store, (CELL,), 3)
        # Was: head_of_another_log, which sends people looking for another database.
        with pytest.raises(LogError, match=r"holds a log of its own \(log\.sqlite\).* move the folder away whole"):
            await PostgresStore.open(postgres, tmp_path / "log", clock=clock())
        shutil.move(tmp_path / "log", tmp_path / "log of before")
        async with nodes(postgres, tmp_path, "log") as (shared,):
            await grow(shared, (CELL,), 1)
        assert verify(tmp_path / "log of before").ok

    run(go())


def test_a_nodes_lost_files_stop_its_start(postgres: PostgresSettings, tmp_path: Path) -> None:
    async def start_without(name: str) -> None:
        copy = tmp_path / f"without {name}"
        shutil.copytree(tmp_path / "a", copy)
        (copy / name).unlink()
        await PostgresStore.open(postgres, copy, clock=clock())

    async def go() -> None:
        async with nodes(postgres, tmp_path, "a") as (a,):
            await grow(a, (CELL,), 3)
        with pytest.raises(LogError, match=r"log\.key: No such file or directory: put the log's own key back"):
            await start_without("log.key")
        with pytest.raises(LogCorrupt, match=r"head_missing: this node's log\.head is missing"):
            await start_without("log.head")

    run(go())


def test_a_log_of_a_newer_format_is_refused(postgres_server: PostgresServer, postgres: Any, tmp_path: Path) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a"):
            pass
        with postgres_server.admin(postgres.database) as db:
            db.execute("UPDATE jidoka.log SET format = 2")
        for opening in (
            PostgresStore.open(postgres, tmp_path / "a", clock=clock()),
            asyncio.to_thread(PostgresReader, postgres),
        ):
            with pytest.raises(LogError, match="log format 2, this program reads 1"):
                await opening

    run(go())


def test_a_database_that_is_no_log_or_cannot_hold_one_is_refused(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with postgres_server.database() as empty, pytest.raises(LogError, match="holds no log: name the one that does"):
        PostgresReader(empty)
    with postgres_server.admin() as db:
        db.execute("CREATE DATABASE other_text ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(LogError, match="server_encoding = SQL_ASCII: it needs UTF8"):
        run(PostgresStore.open(postgres_server.settings("other_text"), tmp_path / "a", clock=clock()))


def test_names_and_ids_that_postgres_cannot_hold_are_refused_or_found_anyway(
    postgres: PostgresSettings, tmp_path: Path
) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a") as (a,):
            with pytest.raises(ValueError, match="has a NUL"):
                await a.take("cell\0")
            await a.take(CELL)
            with pytest.raises(ValueError, match="has a NUL"):
                await a.append(CELL, [], expected=0, advance={"in\0": (0, 1)}, epoch=1)
            fact = OperatorRequested(at=1, request_id="r\0", who="ann", kind="approve", target="c\0mmand")
            await a.append(CELL, [fact], expected=0, advance={}, epoch=1)
            assert await a.positions_of("c\0m") == [1]
            assert [r.fact for r in await a.read_at([1])] == [fact]

    run(go())


@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
@pytest.mark.parametrize(("table", "column"), [("events", "data"), ("writers", "node"), ("blobs", "data")])
def test_not_even_an_administrator_edits_facts_by_accident(
    postgres_server: PostgresServer, postgres: PostgresSettings, tmp_path: Path, statement: str, table: str, column: str
) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a") as (a,):
            await grow(a, (CELL,), 1)

    run(go())
    wrong = statement.format(f"jidoka.{table}", column, column)
    with postgres_server.admin(postgres.database) as db, pytest.raises(psycopg.Error, match="facts are immutable"):
        db.execute(wrong)


def test_the_end_of_the_log_and_the_epochs_do_not_go_back(
    postgres_server: PostgresServer, postgres: PostgresSettings, tmp_path: Path
) -> None:
    async def go() -> None:
        async with nodes(postgres, tmp_path, "a") as (a,):
            await grow(a, (CELL,), 1)

    run(go())
    with postgres_server.admin(postgres.database) as db:
        for wrong in ("log SET position = 0", "log SET log_id = ''", "cells SET epoch = 0", "cells SET version = 0"):
            with pytest.raises(psycopg.Error, match="does not go back"):
                db.execute(f"UPDATE jidoka.{wrong}")


def test_with_the_roles_of_the_deploy_folder_writers_only_append_and_readers_only_read(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    settings = postgres_server.new_database()
    with (tmp_path / "tables.sql").open("w") as tables_sql:
        printing = [sys.executable, "-m", "connectors.eventlog.postgres_tables"]
        subprocess.run(printing, cwd=HOUSE, stdout=tables_sql, check=True, timeout=60)
    shutil.copy(HOUSE / "deploy/postgres/roles.sql", tmp_path)
    command = [postgres_server.programs / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", "roles.sql"]
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(settings.port), "PGUSER": "admin", "PGPASSWORD": PASSWORD}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=where | {"PGDATABASE": settings.database},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with postgres_server.admin() as db:
        for name, role in (("a_writer", "writer"), ("b_writer", "writer"), ("a_reader", "reader")):
            db.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE jidoka_{role}")

    def by(name: str) -> PostgresSettings:
        user = User(name=name, password_file=str(postgres_server.folder / "password"))
        return settings.model_copy(update={"user": user})

    async def go() -> None:
        async with nodes(by("a_writer"), tmp_path, "a", "b") as (a, b):
            await grow(a, (CELL,), 3)
            await grow(b, (CELL,), 3)
        async with PostgresReader(by("a_reader")) as reader:
            assert len(await collect(reader.read_all())) == 6
        with pytest.raises(LogError, match="jidoka_writer or jidoka_reader, see deploy/postgres/roles"):
            await PostgresStore.open(by("a_reader"), tmp_path / "c", clock=clock())

    run(go())
    assert verify_postgres(by("a_reader"), tmp_path / "a").ok
    assert_ends_who_stands_still(by("a_writer"), by("b_writer"))
    assert_ends_who_stands_still(by("a_writer"), by("a_reader"), allowed=False)
    tables = ("events", "log", "heads", "writers", "cells", "positions", "subjects", "blobs", "states")
    for name, allowed in (("a_writer", {"INSERT": set(tables) - {"log"}}), ("a_reader", {"INSERT": set()})):
        assert rights(postgres_server, settings, name, "INSERT", tables) == allowed["INSERT"]
        assert rights(postgres_server, settings, name, "DELETE", tables) == set()
        assert rights(postgres_server, settings, name, "TRUNCATE", tables) == set()
    assert rights(postgres_server, settings, "a_reader", "UPDATE", tables) == set()
    assert rights(postgres_server, settings, "a_writer", "UPDATE", tables) == {"heads", "cells", "positions", "states"}


def assert_ends_who_stands_still(one: PostgresSettings, other: PostgresSettings, *, allowed: bool = True) -> None:
    with connect(one, writes=True) as still, connect(other, writes=True) as waiting:
        with contextlib.suppress(psycopg.OperationalError), still.pipeline():
            still.execute("BEGIN")
            still.execute(LOCK).fetchall()
            time.sleep(1.2)
            ended = end_standstill(waiting, other.model_copy(update={"timeout_s": 1.0}))
        assert (len(ended) == 1) is still.broken is allowed


def rights(
    server: PostgresServer, settings: PostgresSettings, role: str, right: str, tables: tuple[str, ...]
) -> set[str]:
    with server.admin(settings.database) as db:
        query = "SELECT has_table_privilege(%s, 'jidoka.' || %s, %s)"
        return {t for t in tables if db.execute(query, (role, t, right)).fetchone() == (True,)}


def test_each_node_is_registered_with_its_key(
    postgres_server: PostgresServer, postgres: PostgresSettings, tmp_path: Path
) -> None:
    async def go() -> None:
        for _ in range(2):
            async with nodes(postgres, tmp_path, "a", "b"):
                pass

    run(go())
    with postgres_server.admin(postgres.database) as db:
        rows = db.execute("SELECT public_key, node, registered_by FROM jidoka.writers ORDER BY node").fetchall()
    assert [(row[0], row[1].rpartition("/")[2], row[2]) for row in rows] == [
        (load_public_key(tmp_path / name), name, "admin") for name in "ab"
    ]
