"""Whatever is done to a log's files, `verify` says where it begins and what it is, or that nothing was lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.eventlog.chain import genesis, link, sign
from connectors.eventlog.keys import load_public_key, make_keys
from connectors.eventlog.reader import newest_head, open_readonly
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.tables import APPLICATION_ID
from connectors.eventlog.verify import Verification, verify
from schemas.errors import LogCorrupt, LogError
from tests.eventlog_support import CELL, clock, collect, grow, make_log, run

RECORDS_N = 40
TRIALS_N = 60


@pytest.fixture(scope="module")
def original(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("original") / "log"
    make_log(folder, cells=(CELL, "cell2", "cell3"), appends_n=RECORDS_N)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "log")
    return tmp_path / "log"


@contextmanager
def raw(folder: Path) -> Iterator[sqlite3.Connection]:
    """The database as somebody with the file and a SQLite shell has it."""
    with closing(sqlite3.connect(folder / "log.sqlite", isolation_level=None)) as db:
        db.execute("DROP TRIGGER IF EXISTS events_are_not_edited")
        db.execute("DROP TRIGGER IF EXISTS events_are_not_deleted")
        yield db


def rows(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "log.sqlite")) as db:
        return db.execute("SELECT * FROM events ORDER BY position").fetchall()


def trial(original: Path, tmp_path: Path, tamper: Callable[[sqlite3.Connection], None]) -> Verification:
    folder = tmp_path / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    with raw(folder) as db:
        tamper(db)
    return verify(folder)


def test_an_untouched_log_verifies_and_says_how_far(original: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = verify(original, progress=lambda checked, of: seen.append((checked, of)))
    assert (result.ok, result.checked_n, result.position, result.kind) == (True, RECORDS_N, None, None)
    assert result.head is not None
    assert result.head.position == RECORDS_N
    assert seen == [(RECORDS_N, RECORDS_N)]


EDITS = {
    "data": b'{"type":"line.state_changed/1","at":1,"state":"HELD","number":11}',
    "type": "line.state_changed/2",
    "recorded_at": 1_600_000_000_000_000,
    "inputs": '{"in":0}',
    "cell": "cell9",
    "version": 1000,
    "chain": bytes(32),
}


@pytest.mark.parametrize("column", EDITS)
def test_an_edited_record_is_named(original: Path, tmp_path: Path, column: str) -> None:
    rng = np.random.default_rng(1)
    for position in rng.choice(RECORDS_N, TRIALS_N // len(EDITS) + 1, replace=False) + 1:
        update = f"UPDATE events SET {column} = ? WHERE position = {position}"
        result = trial(original, tmp_path, lambda db, update=update: db.execute(update, (EDITS[column],)))  # type: ignore[misc]
        assert (result.position, result.kind) == (position, "edited")
        assert result.checked_n == position - 1


def test_a_deleted_record_is_named(original: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for _ in range(TRIALS_N):
        first = int(rng.integers(1, RECORDS_N))
        last = int(rng.integers(first, RECORDS_N))
        delete = f"DELETE FROM events WHERE position BETWEEN {first} AND {last}"
        result = trial(original, tmp_path, lambda db, delete=delete: db.execute(delete))  # type: ignore[misc]
        assert (result.position, result.kind) == (first, "deleted")


def test_a_deleted_record_is_named_though_the_rest_was_renumbered(original: Path, tmp_path: Path) -> None:
    def renumber(db: sqlite3.Connection, first: int, count: int) -> None:
        db.execute(f"DELETE FROM events WHERE position BETWEEN {first} AND {first + count - 1}")
        for position in range(first + count, RECORDS_N + 1):
            db.execute(f"UPDATE events SET position = {position - count} WHERE position = {position}")

    rng = np.random.default_rng(3)
    for _ in range(TRIALS_N):
        count = int(rng.integers(1, 4))
        first = int(rng.integers(1, RECORDS_N - count - 1))
        result = trial(original, tmp_path, lambda db, f=first, c=count: renumber(db, f, c))  # type: ignore[misc]
        assert (result.position, result.kind) == (first, "deleted"), (first, count)


def test_an_inserted_record_is_named_though_the_rest_was_renumbered(original: Path, tmp_path: Path) -> None:
    def insert(db: sqlite3.Connection, at: int) -> None:
        for position in range(RECORDS_N, at - 1, -1):
            db.execute(f"UPDATE events SET position = {position + 1} WHERE position = {position}")
        db.execute("INSERT INTO events VALUES (?, 'new', 1, 'time.reached/1', 1, '{}', ?, ?)", (at, b"{}", bytes(32)))

    for at in (1, 7, 20, RECORDS_N - 2):
        result = trial(original, tmp_path, lambda db, at=at: insert(db, at))  # type: ignore[misc]
        assert result.position == at
        assert result.kind in ("inserted", "edited", "reordered")


@pytest.mark.parametrize("with_chain", [True, False])
def test_two_swapped_records_are_named(original: Path, tmp_path: Path, with_chain: bool) -> None:
    def swap(db: sqlite3.Connection, one: int, other: int) -> None:
        if with_chain:
            for old, new in ((one, -1), (other, one), (-1, other)):
                db.execute(f"UPDATE events SET position = {new} WHERE position = {old}")
            return
        a, b = (db.execute(f"SELECT * FROM events WHERE position = {p}").fetchone() for p in (one, other))
        db.execute(f"DELETE FROM events WHERE position IN ({one}, {other})")
        for position, content, chain in ((one, b, a), (other, a, b)):
            db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (position, *content[1:7], chain[7]))

    rng = np.random.default_rng(4)
    for _ in range(TRIALS_N):
        one, other = sorted(int(p) for p in rng.choice(RECORDS_N, 2, replace=False) + 1)
        result = trial(original, tmp_path, lambda db, a=one, b=other: swap(db, a, b))  # type: ignore[misc]
        assert (result.position, result.kind) == (one, "reordered"), (one, other)


def test_a_cut_tail_is_named_and_the_log_is_not_opened_for_writing(original: Path, tmp_path: Path) -> None:
    for last in range(RECORDS_N):
        cut = f"DELETE FROM events WHERE position > {last}"
        result = trial(original, tmp_path, lambda db, cut=cut: db.execute(cut))  # type: ignore[misc]
        assert (result.position, result.kind) == (last + 1, "cut")
        with pytest.raises(LogCorrupt, match=f"record {last + 1}: cut: .* ends at {last}, log.head at {RECORDS_N}"):
            SqliteStore.open(tmp_path / "trial", clock=clock())


def test_an_older_copy_of_the_database_is_a_cut(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "log.sqlite", tmp_path / "old.sqlite")
    make_log(folder, cells=(CELL,), appends_n=3)
    shutil.copy(tmp_path / "old.sqlite", folder / "log.sqlite")
    result = verify(folder)
    assert (result.position, result.kind) == (RECORDS_N + 1, "cut")


def rechain(db: sqlite3.Connection, log_id: str) -> bytes:
    """Do what a forger without the key can do: make the chain sound again."""
    chain = genesis(log_id)
    for row in db.execute("SELECT * FROM events ORDER BY position").fetchall():
        at, cell, version, type_, recorded_at, inputs, data, _ = row
        chain = link(chain, at, cell.encode(), version, type_.encode(), recorded_at, inputs.encode(), data)
        db.execute("UPDATE events SET chain = ? WHERE position = ?", (chain, at))
    return chain


def log_id_of(folder: Path) -> str:
    return newest_head(folder).log_id


def test_a_rewritten_chain_does_not_meet_the_signed_head(folder: Path) -> None:
    with raw(folder) as db:
        db.execute("UPDATE events SET data = ? WHERE position = 3", (b"{}",))
        rechain(db, log_id_of(folder))
    result = verify(folder)
    assert (result.position, result.kind) == (RECORDS_N, "rewritten")
    with pytest.raises(LogCorrupt, match=f"record {RECORDS_N}: rewritten"):
        SqliteStore.open(folder, clock=clock())


def test_a_record_added_with_a_sound_chain_and_no_key_is_unsigned(folder: Path) -> None:
    with raw(folder) as db:
        row = (RECORDS_N + 1, "cell2", 99, "time.reached/1", 1, "{}", b"{}", bytes(32))
        db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        rechain(db, log_id_of(folder))
        db.execute("UPDATE events SET version = 14 WHERE version = 99")
        rechain(db, log_id_of(folder))
    result = verify(folder)
    assert (result.position, result.kind) == (RECORDS_N + 1, "unsigned")
    with pytest.raises(LogCorrupt, match=f"record {RECORDS_N + 1}: unsigned"):
        SqliteStore.open(folder, clock=clock())


def test_versions_that_jump_are_named_though_the_chain_is_sound(folder: Path) -> None:
    with raw(folder) as db:
        db.execute("UPDATE events SET version = version + 100 WHERE position = 30")
        rechain(db, log_id_of(folder))
    result = verify(folder)
    assert (result.position, result.kind) == (30, "version_gap")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ("UPDATE cells SET version = 5 WHERE cell = 'cell2'", "is at version 5, its records at 13"),
        ("DELETE FROM cells WHERE cell = 'cell2'", "is at version None"),
        ("UPDATE positions SET position = 2 WHERE cell = 'cell2'", "input 'in' of cell 'cell2' is at 2"),
        ("DELETE FROM positions", "is at None"),
    ],
)
def test_what_the_store_goes_on_from_must_fit_the_records(folder: Path, change: str, detail: str) -> None:
    with raw(folder) as db:
        db.execute(change)
    result = verify(folder)
    assert result.kind == "index"
    assert detail in result.detail


def test_a_forger_with_another_key_is_found_by_the_public_key_kept_elsewhere(folder: Path) -> None:
    trusted, log_id = load_public_key(folder), log_id_of(folder)
    key = make_keys(folder)
    with raw(folder) as db:
        db.execute("UPDATE events SET data = ? WHERE position = 3", (b"{}",))
        head = sign(key, log_id, RECORDS_N, rechain(db, log_id), 1)
        write_heads(folder, db, head)
    assert verify(folder).ok  # Honest: with the key replaced too, the folder alone cannot tell.
    assert verify(folder, public_key=trusted).kind == "foreign_key"


def write_heads(folder: Path, db: sqlite3.Connection, head: Any) -> None:
    from connectors.eventlog.chain import head_text
    from connectors.eventlog.headfile import SLOT_BYTES

    db.execute("UPDATE head SET text = ?", (head_text(head),))
    (folder / "log.head").write_bytes(head_text(head).ljust(SLOT_BYTES, b"\n") * 2)


def test_an_old_copy_of_the_whole_folder_is_found_by_a_head_kept_elsewhere(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "old")
    make_log(folder, cells=(CELL,), appends_n=2)
    kept = newest_head(folder)
    assert verify(folder, against=kept).ok
    assert verify(tmp_path / "old").ok
    result = verify(tmp_path / "old", against=kept)
    assert (result.position, result.kind) == (RECORDS_N + 1, "cut")


def test_a_head_of_another_log_or_another_signer_is_named(folder: Path, tmp_path: Path) -> None:
    make_log(tmp_path / "other", appends_n=3)
    assert verify(folder, against=newest_head(tmp_path / "other")).kind == "head_of_another_log"
    forged = sign(Ed25519PrivateKey.generate(), log_id_of(folder), 3, bytes(32), 1)
    assert verify(folder, against=forged).kind == "head_signature"
    shutil.copy(tmp_path / "other" / "log.head", folder / "log.head")
    assert verify(folder).kind == "head_signature"
    with pytest.raises(LogCorrupt, match="head_signature"):
        SqliteStore.open(folder, clock=clock())


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    def without(name: str) -> Path:
        copy = tmp_path / f"without {name}"
        shutil.copytree(folder, copy)
        (copy / name).unlink()
        return copy

    assert verify(without("log.head")).kind == "head_missing"
    assert verify(without("log.pub")).kind == "key_missing"
    assert verify(without("log.key")).ok
    cut = verify(without("log.sqlite"))
    assert (cut.position, cut.kind) == (1, "cut")
    assert verify(tmp_path / "nothing").kind == "not_a_log"


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + bytes(200), bytes(100_000)])
def test_other_files_in_the_databases_place_are_named(folder: Path, content: bytes) -> None:
    (folder / "log.sqlite").write_bytes(content)
    assert verify(folder).kind in ("not_a_log", "cut")
    with pytest.raises(LogError):
        SqliteStore.open(folder, clock=clock())
    with pytest.raises(LogError):
        open_readonly(folder)


def test_another_programs_database_is_not_a_log(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as db:
        db.execute("CREATE TABLE t (x)")
    make_keys(tmp_path)
    assert verify(tmp_path).kind == "not_a_log"
    with pytest.raises(LogError, match="not a log"):
        SqliteStore.open(tmp_path, clock=clock())
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(LogError, match="log format 2, this program reads 1"):
        SqliteStore.open(tmp_path, clock=clock())


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    offset = int(rng.integers(len(data)))
    return data[:offset] + bytes([data[offset] ^ 1 << int(rng.integers(8))]) + data[offset + 1 :]


def test_a_flipped_bit_in_the_database_is_named_or_touched_nothing(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    shutil.copytree(original, folder)
    before, whole = rows(folder), (original / "log.sqlite").read_bytes()
    rng = np.random.default_rng(6)
    kinds: dict[str | None, int] = {}
    for _ in range(400):
        (folder / "log.sqlite").write_bytes(flipped(whole, rng))
        result = verify(folder)
        kinds[result.kind] = kinds.get(result.kind, 0) + 1
        if result.ok:
            assert rows(folder) == before
    assert kinds["edited"] > 20
    assert kinds[None] < 390


def test_a_log_with_a_flipped_bit_opens_or_is_refused_by_name(original: Path, tmp_path: Path) -> None:
    whole = (original / "log.sqlite").read_bytes()
    rng = np.random.default_rng(7)
    folder = tmp_path / "log"
    for _ in range(60):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        (folder / "log.sqlite").write_bytes(flipped(whole, rng))

        async def go() -> None:
            async with SqliteStore.open(folder, clock=clock()) as store:
                await collect(store.read_all())

        with contextlib.suppress(LogError):
            run(go())


def test_a_flipped_bit_in_the_wal_is_named_or_touched_nothing(tmp_path: Path) -> None:
    async def crash_copy() -> None:
        async with SqliteStore.open(tmp_path / "log", clock=clock()) as store:
            await grow(store, (CELL, "cell2"), RECORDS_N)
            shutil.copytree(tmp_path / "log", tmp_path / "crashed")

    run(crash_copy())
    wal = (tmp_path / "crashed" / "log.sqlite-wal").read_bytes()
    assert len(wal) > 100_000
    rng = np.random.default_rng(8)
    kinds: dict[str | None, int] = {}
    folder = tmp_path / "trial"
    for _ in range(150):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "crashed", folder, ignore=shutil.ignore_patterns("*-shm"))
        (folder / "log.sqlite-wal").write_bytes(flipped(wal, rng))
        result = verify(folder)
        kinds[result.kind] = kinds.get(result.kind, 0) + 1
        if result.ok:
            assert len(rows(folder)) == RECORDS_N
    assert kinds["cut"] > 100
    assert set(kinds) <= {None, "cut", "not_a_log"}


def test_no_bit_of_the_head_file_can_flip_unseen(folder: Path) -> None:
    whole = (folder / "log.head").read_bytes()
    rng = np.random.default_rng(9)
    for _ in range(60):
        (folder / "log.head").write_bytes(flipped(whole, rng))
        result = verify(folder)
        assert (result.position, result.kind) == (RECORDS_N, "head_signature")


def test_a_log_verifies_while_it_is_written(tmp_path: Path) -> None:
    async def go() -> None:
        async with SqliteStore.open(tmp_path, clock=clock()) as store:
            await grow(store, (CELL,), 5)
            growing = asyncio.create_task(grow(store, ("cell2", "cell3"), 300))
            results = []
            while not growing.done():
                results.append(await asyncio.to_thread(verify, tmp_path))
            await growing
            assert [r for r in results if not r.ok] == []
            assert max(r.checked_n for r in results) > 5

    run(go())
