"""Whatever an administrator does to a shared log's tables, verifying says where it begins and what it is."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.eventlog.chain import genesis, head_text, link, parse_head, sign
from connectors.eventlog.checking import Verification
from connectors.eventlog.keys import load_public_key
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_connect import connect
from connectors.eventlog.postgres_tables import end_head
from connectors.eventlog.postgres_verify import verify_postgres
from schemas.errors import LogCorrupt
from schemas.settings import PostgresSettings
from tests.eventlog_support import CELL, clock, grow, run
from tests.support.postgres import PostgresServer

RECORDS_N = 30
TABLES = ("events", "log", "heads", "writers", "cells", "positions")
Database = psycopg.Connection[Any]


@dataclass(frozen=True)
class Log:
    """A log of two nodes, and the administrator's way to it."""

    settings: PostgresSettings
    folder: Path
    server: PostgresServer

    def admin(self) -> Database:
        db = self.server.admin(self.settings.database)
        db.execute("SET search_path = jidoka")
        db.execute("SET session_replication_role = replica")
        return db

    def verify(self, **given: Any) -> Verification:
        return verify_postgres(self.settings, self.folder / "a", **given)

    def after(self, *changes: str | Callable[[Database], object]) -> Verification:
        with self.admin() as db:
            for change in changes:
                if callable(change):
                    change(db)
                else:
                    db.execute(change)
        return self.verify()

    def opening_fails(self, message: str) -> None:
        with pytest.raises(LogCorrupt, match=message):
            run(PostgresStore.open(self.settings, self.folder / "a", clock=clock()))


@pytest.fixture(scope="module")
def original(postgres_server: PostgresServer, tmp_path_factory: Any) -> Iterator[Log]:
    folder = tmp_path_factory.mktemp("original")
    with postgres_server.database() as settings:
        log = Log(settings, folder, postgres_server)

        async def write() -> None:
            a = await PostgresStore.open(settings, folder / "a", clock=clock())
            b = await PostgresStore.open(settings, folder / "b", clock=clock())
            async with a, b:
                await grow(b, ("cell3",), 10)
                await grow(a, (CELL, "cell2"), 20)

        run(write())
        with log.admin() as db:
            for table in TABLES:
                db.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")
        yield log


@pytest.fixture
def log(original: Log, tmp_path: Path) -> Iterator[Log]:
    shutil.copytree(original.folder, tmp_path / "nodes")
    yield Log(original.settings, tmp_path / "nodes", original.server)
    with original.admin() as db:
        db.execute(f"TRUNCATE {', '.join(TABLES)}")
        for table in TABLES:
            db.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")


def test_an_untouched_log_verifies_and_says_how_far(log: Log) -> None:
    seen: list[tuple[int, int]] = []
    result = log.verify(progress=lambda checked, of: seen.append((checked, of)))
    assert (result.ok, result.checked_n, result.position, result.kind) == (True, RECORDS_N, None, None)
    assert result.head is not None
    assert result.head.position == RECORDS_N
    assert seen[-1] == (RECORDS_N, RECORDS_N)
    assert verify_postgres(log.settings).ok


EDITS = {
    "data": r"'\x7b7d'", "type": "'line.state_changed/2'", "recorded_at": "1600000000000000", "inputs": "'{\"in\":0}'",
    "cell": "'cell9'", "version": "1000", "chain": r"'\x00'",
}  # fmt: skip


@pytest.mark.parametrize("column", EDITS)
def test_an_edited_record_is_named(log: Log, column: str) -> None:
    result = log.after(f"UPDATE events SET {column} = {EDITS[column]} WHERE position = 17")
    assert (result.position, result.kind, result.checked_n) == (17, "edited", 16)


def test_a_change_that_a_trigger_let_through_is_named_when_the_log_is_opened(log: Log) -> None:
    log.after("UPDATE events SET data = '{}' WHERE position = 29")
    shutil.rmtree(log.folder / "a")
    log.opening_fails("record 29: edited")


@pytest.mark.parametrize(("first", "last"), [(1, 1), (4, 9), (29, 29), (30, 30), (12, 30)])
def test_deleted_records_are_named(log: Log, first: int, last: int) -> None:
    result = log.after(f"DELETE FROM events WHERE position BETWEEN {first} AND {last}")
    assert (result.position, result.kind) == (first, "cut" if last == RECORDS_N else "deleted")


def test_a_deleted_record_is_named_though_the_rest_was_renumbered(log: Log) -> None:
    renumber = (
        "UPDATE events SET position = -position WHERE position > 11",
        "UPDATE events SET position = -position - 1 WHERE position < 0",
    )
    result = log.after("DELETE FROM events WHERE position = 11", *renumber)
    assert (result.position, result.kind) == (11, "deleted")


def test_two_swapped_records_are_named(log: Log) -> None:
    swap = [f"UPDATE events SET position = {new} WHERE position = {old}" for old, new in ((5, -1), (20, 5), (-1, 20))]
    result = log.after(*swap)
    assert (result.position, result.kind) == (5, "reordered")


def rechain(db: Database) -> tuple[str, bytes]:
    """Compute the chain anew over whatever is stored now, as a forger without a key does."""
    (log_id,) = db.execute("SELECT log_id FROM log").fetchone() or ("",)
    chain = genesis(log_id)
    for at, cell, version, type_, recorded_at, inputs, data in db.execute(
        "SELECT position, cell, version, type, recorded_at, inputs, data FROM events ORDER BY position"
    ).fetchall():
        chain = link(chain, at, cell.encode(), version, type_.encode(), recorded_at, inputs.encode(), bytes(data))
        db.execute("UPDATE events SET chain = %s WHERE position = %s", (chain, at))
    db.execute("UPDATE log SET chain = %s", (chain,))
    return log_id, chain


def test_a_rewritten_chain_does_not_meet_the_signed_heads(log: Log) -> None:
    result = log.after("UPDATE events SET data = '{}' WHERE position = 20", rechain)
    assert (result.position, result.kind) == (RECORDS_N, "rewritten")
    log.opening_fails(f"record {RECORDS_N}: rewritten")


def test_a_chain_rewritten_before_the_last_head_of_another_node_is_named_there(log: Log) -> None:
    result = log.after("UPDATE events SET data = '{}' WHERE position = 3", rechain)
    assert (result.position, result.kind) == (10, "rewritten")


def test_records_added_with_a_sound_chain_and_no_key_are_unsigned(log: Log) -> None:
    result = log.after(
        "INSERT INTO events VALUES (31, 'cell3', 11, 'time.reached/1', 1, '{}', '{}', '')",
        rechain,
        "UPDATE log SET position = 31",
        "UPDATE cells SET version = 11 WHERE cell = 'cell3'",
    )
    assert (result.position, result.kind) == (31, "unsigned")
    log.opening_fails("record 31: unsigned")


def test_a_tail_cut_with_everything_beside_it_is_found_by_the_nodes_own_head_only(log: Log) -> None:
    """B signed position 10; an administrator removes A's work and A altogether."""
    key = load_public_key(log.folder / "a").hex()
    changes = [
        "DELETE FROM events WHERE position > 10", "DELETE FROM cells WHERE cell <> 'cell3'",
        "DELETE FROM positions WHERE cell <> 'cell3'", f"DELETE FROM heads WHERE public_key = '\\x{key}'",
        "UPDATE log SET position = 10, chain = (SELECT chain FROM events WHERE position = 10)",
    ]  # fmt: skip
    result = log.after(*changes)
    assert (result.kind, result.position) == ("head_missing", 0)
    log.after(f"DELETE FROM writers WHERE public_key = '\\x{key}'")
    assert verify_postgres(log.settings).ok  # Honest: the database alone cannot tell.
    assert verify_postgres(log.settings, log.folder / "b").ok
    assert log.verify().kind == "foreign_key"
    log.opening_fails("record 11: cut")


def test_a_forger_who_registers_a_key_is_found_by_a_node_and_by_keys_kept_elsewhere(log: Log) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    trusted = [load_public_key(log.folder / name) for name in ("a", "b")]

    def forge(db: Database) -> None:
        log_id, chain = rechain(db)
        text = head_text(sign(key, log_id, RECORDS_N, chain, 1))
        db.execute("DELETE FROM heads")
        db.execute("DELETE FROM writers")
        db.execute("INSERT INTO writers VALUES (%s, 'a node')", (public,))
        db.execute("INSERT INTO heads VALUES (%s, %s, '')", (public, text))

    result = log.after("UPDATE events SET data = '{}' WHERE position = 3", forge)
    assert result.kind == "foreign_key"
    assert verify_postgres(log.settings).ok  # Honest: with the keys replaced too, the database alone cannot tell.
    assert verify_postgres(log.settings, public_keys=trusted).kind == "foreign_key"
    log.opening_fails("head_missing|rewritten")


def test_a_head_kept_elsewhere_must_be_in_the_log(log: Log) -> None:
    db = connect(log.settings, writes=False)
    kept = end_head(db)
    db.close()
    assert kept is not None
    assert log.verify(against=kept).ok
    foreign = sign(Ed25519PrivateKey.generate(), kept.log_id, 3, bytes(32), 1)
    assert log.verify(against=foreign).kind == "head_signature"
    other = sign(Ed25519PrivateKey.generate(), "another log", 3, bytes(32), 1)
    assert log.verify(against=other).kind == "head_of_another_log"


@pytest.mark.parametrize(
    ("change", "kind", "detail"),
    [
        ("UPDATE heads SET text = 'x'", "head_signature", "is no head"),
        ("UPDATE heads SET text = replace(encode(text, 'escape'), 'position 30', 'position 29')::bytea",
         "head_signature", "does not hold"),
        ("DELETE FROM heads", "head_missing", "is registered, but its head is gone"),
        ("DELETE FROM writers", "foreign_key", "is not registered there"),
        ("UPDATE cells SET version = 5 WHERE cell = 'cell2'", "index", "is at version 5, its records at 10"),
        ("DELETE FROM cells WHERE cell = 'cell2'", "index", "is at version None"),
        ("UPDATE positions SET position = 2 WHERE cell = 'cell2'", "index", "input 'in' of cell 'cell2' is at 2"),
        ("DELETE FROM positions", "index", "is at None"),
        ("UPDATE log SET position = 29", "index", "it says that the log ends at 29, not at 30"),
        ("DELETE FROM log", "not_a_log", "the log's own row is gone"),
    ],
)  # fmt: skip
def test_what_stands_beside_the_records_must_fit_them(log: Log, change: str, kind: str, detail: str) -> None:
    result = log.after(change)
    assert result.kind == kind
    assert detail in result.detail


def test_versions_that_jump_are_named_though_the_chain_is_sound(log: Log) -> None:
    """Only somebody with a node's key can do it: the signature is put right here, too."""
    (log.folder / "a" / "log.head").unlink()
    key = Ed25519PrivateKey.generate()

    def sign_again(db: Database) -> None:
        log_id, chain = rechain(db)
        public = key.public_key().public_bytes_raw()
        db.execute("DELETE FROM heads")
        db.execute("DELETE FROM writers")
        db.execute("INSERT INTO writers VALUES (%s, 'a node')", (public,))
        db.execute("INSERT INTO heads VALUES (%s, %s, '')", (public, head_text(sign(key, log_id, RECORDS_N, chain, 1))))

    result = log.after("UPDATE events SET version = version + 100 WHERE position = 30", sign_again)
    assert (result.position, result.kind) == (30, "version_gap")


def test_a_nodes_head_that_was_edited_is_named(log: Log) -> None:
    path = log.folder / "a" / "log.head"
    whole = path.read_bytes()
    assert parse_head(whole[:4096].rstrip(b"\n") + b"\n").position == RECORDS_N
    rng = np.random.default_rng(9)
    for _ in range(10):
        offset = int(rng.integers(len(whole)))
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1 << int(rng.integers(8))]) + whole[offset + 1 :])
        assert log.verify().kind == "head_signature"


def test_a_log_verifies_while_nodes_write_it(log: Log) -> None:
    async def go() -> None:
        async with await PostgresStore.open(log.settings, log.folder / "a", clock=clock()) as store:
            growing = asyncio.create_task(grow(store, ("cell4", "cell5"), 100))
            results = []
            while not growing.done():
                results.append(await asyncio.to_thread(verify_postgres, log.settings, log.folder / "a"))
            await growing
            assert [r for r in results if not r.ok] == []
            assert max(r.checked_n for r in results) > RECORDS_N

    run(go())
