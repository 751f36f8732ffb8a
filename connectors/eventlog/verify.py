"""Is a log still what was written? Every payload is read and hashed again, offline or while the agent runs.

Needs nothing but the folder, and nothing secret. It believes `log.pub` unless it is given a key that was kept
elsewhere, and can be given a head that was kept elsewhere too: those two are what a forger with the private key, or
with an old copy of the whole folder, cannot bring along. See docs/event-log.md for what is found and what is not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from connectors.eventlog.chain import genesis, signature_holds
from connectors.eventlog.checking import Kind, Progress, Verification, Wrong, check_versions, meets, walk_to
from connectors.eventlog.headfile import HEAD_FILE, HeadsFound, read_heads
from connectors.eventlog.keys import PUBLIC_KEY_FILE, load_public_key
from connectors.eventlog.opening import last_position, own_head
from connectors.eventlog.tables import DB_FILE, check_format, connect_reader, raw_rows, read_log_id
from connectors.eventlog.walk import RawRow, Walk
from schemas.errors import LogCorrupt, LogError
from schemas.records import SignedHead


def verify(
    folder: Path,
    *,
    public_key: bytes | None = None,
    against: SignedHead | None = None,
    progress: Progress = lambda checked, of: None,
) -> Verification:
    """Check the whole log. Damage is a result, never an exception.

    Args:
        folder: Holds `log.sqlite`, `log.head` and `log.pub`.
        public_key: The log's key as somebody kept it elsewhere, 32 bytes; None: believe `log.pub`.
        against: A head that somebody kept elsewhere: the log must contain it.
        progress: Called every `CHUNK_ROWS` records.
    """
    check = _Check(folder, public_key, against, progress)
    try:
        check.run()
    except Wrong as wrong:
        return Verification(check.checked_n, check.head, wrong.position, wrong.kind, wrong.detail)
    except LogCorrupt as error:
        kind = cast(Kind, error.kind)
        return Verification(check.checked_n, check.head, error.position, kind, error.detail)
    except (sqlite3.Error, OSError) as error:
        detail = f"cannot read on after record {check.checked_n}: {error}"
        return Verification(check.checked_n, check.head, check.checked_n + 1, "unreadable", detail)
    return Verification(check.checked_n, check.head)


class _SqliteRows:
    """The stored events of a SQLite log."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def last(self) -> int:
        return last_position(self._db)

    def between(self, after: int, to: int, rows_max: int = -1) -> Iterable[RawRow]:
        return raw_rows(self._db, after, to, rows_max)


class _Check:
    """One run over one log. Each step raises `Wrong` for the first thing that it finds."""

    def __init__(self, folder: Path, public_key: bytes | None, against: SignedHead | None, progress: Progress) -> None:
        self.folder, self.public_key, self.against, self.progress = folder, public_key, against, progress
        self.head: SignedHead | None = None
        self.walk = Walk(0, b"", versions={})

    @property
    def checked_n(self) -> int:
        """Records that verified so far."""
        return self.walk.position

    def run(self) -> None:
        if not (self.folder / DB_FILE).exists() and not (self.folder / HEAD_FILE).exists():
            raise Wrong(0, "not_a_log", f"{self.folder}: neither {DB_FILE} nor {HEAD_FILE} is here")
        # Heads are read before records: a log that grows meanwhile is ahead of them, never behind.
        key = self._key()
        found = self._heads(key)
        self.head = found.newest if found else None
        try:
            db = connect_reader(self.folder)
        except LogError as error:
            raise Wrong(1, "cut", str(error)) from error
        try:
            self._records(db, key)
            self._indices(db)
        finally:
            db.close()
        if found is None:
            raise Wrong(self.checked_n, "head_missing", f"{self.folder / HEAD_FILE} is missing")
        if found.bad_slots:
            detail = f"{HEAD_FILE}: {len(found.bad_slots)} of its 2 heads were edited, or torn by a power cut"
            raise Wrong(self.head.position if self.head else self.checked_n, "head_signature", detail)

    def _key(self) -> bytes:
        try:
            key = load_public_key(self.folder)
        except LogError as error:
            if self.public_key is None:
                raise Wrong(0, "key_missing", str(error)) from error
            return self.public_key
        if self.public_key is not None and key != self.public_key:
            raise Wrong(0, "foreign_key", f"{PUBLIC_KEY_FILE} is not the key that you gave")
        return key

    def _heads(self, key: bytes) -> HeadsFound | None:
        try:
            return read_heads(self.folder, key)
        except FileNotFoundError:
            return None

    def _records(self, db: sqlite3.Connection, key: bytes) -> None:
        try:
            check_format(db, self.folder / DB_FILE)
        except (LogError, sqlite3.DatabaseError) as error:
            raise Wrong(0, "not_a_log", str(error)) from error
        log_id = read_log_id(db)
        heads = [head for head in (self.head, self.against) if head is not None]
        for head in heads:
            if head.log_id != log_id:
                raise Wrong(0, "head_of_another_log", f"the head is of log {head.log_id!r}, the records of {log_id!r}")
            if not signature_holds(head, key):
                raise Wrong(head.position, "head_signature", "the signature of the head that was kept does not hold")
        self.walk.chain = genesis(log_id)
        for head in sorted(heads, key=lambda head: head.position):
            self._walk_to(db, head.position)
            meets(self.walk, head)
        self._walk_to(db, None)
        db.execute("BEGIN")  # One snapshot for the last records, the head inside and the tables beside.
        self._walk_to(db, None)
        self._ends(db, own_head(db, log_id, key))
        self._tables(db)
        db.execute("COMMIT")

    def _walk_to(self, db: sqlite3.Connection, to: int | None) -> None:
        walk_to(_SqliteRows(db), self.walk, to, self.progress)

    def _ends(self, db: sqlite3.Connection, own: SignedHead) -> None:
        end = self.walk.position
        if end > own.position:
            raise Wrong(own.position + 1, "unsigned", f"records follow after the head in the database, {own.position}")
        if end < own.position:
            raise Wrong(end + 1, "cut", f"the records end at {end}, the head in the database is at {own.position}")
        meets(self.walk, own)

    def _tables(self, db: sqlite3.Connection) -> None:
        """Compare what the store goes on from (versions, input positions) with the records."""
        check_versions(self.walk, dict(db.execute("SELECT CAST(cell AS BLOB), version FROM cells WHERE version > 0")))
        query = """SELECT e.position, e.cell, i.key, i.value, p.position
            FROM cells c JOIN events e ON e.cell = c.cell AND e.version = c.version, json_each(e.inputs) i
            LEFT JOIN positions p ON p.cell = c.cell AND p.source = i.key
            WHERE p.position IS NULL OR p.position < i.value LIMIT 1"""
        for position, cell, source, said, held in db.execute(query):
            detail = f"input {source!r} of cell {cell!r} is at {held}, its last record at {said}"
            raise Wrong(position, "index", f"table positions: {detail}")

    def _indices(self, db: sqlite3.Connection) -> None:
        """Let SQLite compare its indices with its tables: reading by cell goes through them."""
        (answer,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise Wrong(self.checked_n, "index", f"SQLite says: {answer}")
