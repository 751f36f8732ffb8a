"""Is a shared log in PostgreSQL still what its nodes wrote? Every payload is read and hashed again, while they run too.

Needs the right to read and nothing secret. By itself the database proves that its records are the ones that registered
keys signed; who administers it could register a key of his own, or put all of it back to an older copy. A node's folder
(its key and its last head) and keys or heads that were kept elsewhere are what he cannot bring along.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import cast

import psycopg

from connectors.eventlog.chain import genesis, signature_holds
from connectors.eventlog.checking import Kind, Progress, Verification, Wrong, check_versions, meets, walk_to
from connectors.eventlog.headfile import HEAD_FILE, read_heads
from connectors.eventlog.keys import load_public_key
from connectors.eventlog.postgres_connect import Database, connect, name_of
from connectors.eventlog.postgres_tables import (
    LogRow,
    Writer,
    head_of,
    last_position,
    raw_rows,
    read_log,
    read_writers,
)
from connectors.eventlog.walk import RawRow, Walk
from schemas.errors import LogCorrupt, LogError
from schemas.records import SignedHead
from schemas.settings import PostgresSettings

_NO_BOUND = 2**62
_CHUNK_ROWS = 2_000
"""Rows held in memory."""


def verify_postgres(
    settings: PostgresSettings,
    folder: Path | None = None,
    *,
    public_keys: Collection[bytes] | None = None,
    against: SignedHead | None = None,
    progress: Progress = lambda checked, of: None,
) -> Verification:
    """Check the whole log. Damage is a result, never an exception.

    Args:
        settings: With absolute paths; the role `jidoka_reader` is enough.
        folder: A node's own, with `log.pub` and `log.head`: the log must contain what that node signed last.
        public_keys: The keys of all nodes as somebody kept them elsewhere, 32 bytes each; None: believe the table.
        against: A head that somebody kept elsewhere: the log must contain it.
        progress: Called every few thousand records.

    Raises:
        ConnectionFault: no connection; names the setting and the remedy.
    """
    check = _Check(settings, folder, public_keys, against, progress)
    # Heads that lie elsewhere are read before records: a log that grows meanwhile is ahead of them, never behind.
    try:
        check.read_folder()
        db = connect(settings, writes=False)
        try:
            check.run(db)
        finally:
            db.close()
    except Wrong as wrong:
        return Verification(check.checked_n, check.head, wrong.position, wrong.kind, wrong.detail)
    except LogCorrupt as error:
        return Verification(check.checked_n, check.head, error.position, cast(Kind, error.kind), error.detail)
    except LogError as error:
        return Verification(check.checked_n, check.head, 0, "not_a_log", str(error))
    except (psycopg.Error, OSError) as error:
        detail = f"cannot read on after record {check.checked_n}: {error}"
        return Verification(check.checked_n, check.head, check.checked_n + 1, "unreadable", detail)
    return Verification(check.checked_n, check.head)


class _PostgresRows:
    """The stored events of a shared log."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def last(self) -> int:
        return last_position(self._db)

    def between(self, after: int, to: int, rows_max: int = -1) -> Iterator[RawRow]:
        left = _NO_BOUND if rows_max < 0 else rows_max
        while chunk := raw_rows(self._db, after, to, min(left, _CHUNK_ROWS)):
            yield from chunk
            after, left = chunk[-1][0], left - len(chunk)


class _Check:
    """One run over one log. Each step raises `Wrong` for the first thing that it finds."""

    def __init__(
        self,
        settings: PostgresSettings,
        folder: Path | None,
        public_keys: Collection[bytes] | None,
        against: SignedHead | None,
        progress: Progress,
    ) -> None:
        self.name, self.folder, self.public_keys, self.progress = name_of(settings), folder, public_keys, progress
        self.head: SignedHead | None = None
        self.walk = Walk(0, b"", versions={})
        self._elsewhere = [against] if against is not None else []
        self._own_key: bytes | None = None

    @property
    def checked_n(self) -> int:
        """Records that verified so far."""
        return self.walk.position

    def read_folder(self) -> None:
        """Read what a node signed last, and with which key."""
        if self.folder is None or not (self.folder / HEAD_FILE).exists():
            return
        try:
            self._own_key = load_public_key(self.folder)
        except LogError as error:
            raise Wrong(0, "key_missing", str(error)) from error
        found = read_heads(self.folder, self._own_key)
        if found.bad_slots:
            detail = f"{self.folder / HEAD_FILE}: {len(found.bad_slots)} of its 2 heads were edited, or torn"
            raise Wrong(found.newest.position if found.newest else 0, "head_signature", detail)
        if found.newest is not None:
            self._elsewhere.append(found.newest)

    def run(self, db: Database) -> None:
        log = read_log(db)
        writers = read_writers(db)
        for head in self._elsewhere:
            if head.log_id != log.log_id:
                detail = f"the head that was kept is of log {head.log_id!r}, {self.name} holds {log.log_id!r}"
                raise Wrong(0, "head_of_another_log", detail)
        keys = self._keys(writers)
        heads = [*self._elsewhere, *self._signed(writers, keys)]
        for head in heads:
            if head.log_id != log.log_id:
                raise Wrong(0, "head_of_another_log", f"a node's head is of log {head.log_id!r}")
            if head.public_key not in keys or not signature_holds(head, head.public_key):
                raise Wrong(head.position, "head_signature", "the signature of a head that was kept does not hold")
        self.head = max(heads, key=lambda head: head.position, default=None)
        self.walk.chain = genesis(log.log_id)
        rows = _PostgresRows(db)
        for head in sorted(heads, key=lambda head: head.position):
            walk_to(rows, self.walk, head.position, self.progress)
            meets(self.walk, head)
        walk_to(rows, self.walk, None, self.progress)
        with db.transaction():  # One snapshot for the last records, the newest head and the tables beside.
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            walk_to(rows, self.walk, None, self.progress)
            self._ends(read_log(db), self._signed(read_writers(db), self._keys(read_writers(db))))
            self._tables(db)

    def _keys(self, writers: list[Writer]) -> set[bytes]:
        registered = {writer.public_key: writer for writer in writers}
        for key, writer in registered.items():
            if self.public_keys is not None and key not in self.public_keys:
                detail = f"node {writer.node!r}, registered {writer.registered_at} by {writer.registered_by!r}"
                raise Wrong(0, "foreign_key", f"{detail}, signs with a key that is not among those that you gave")
        if self._own_key is not None and self._own_key not in registered:
            raise Wrong(0, "foreign_key", f"{self.name}: the key of {self.folder} is not registered there")
        return set(registered) | set(self.public_keys or ())

    def _signed(self, writers: list[Writer], keys: set[bytes]) -> list[SignedHead]:
        heads = []
        for writer in writers:
            if writer.head is None:
                raise Wrong(0, "head_missing", f"node {writer.node!r} is registered, but its head is gone")
            head = head_of(writer)
            if head.public_key not in keys or not signature_holds(head, head.public_key):
                raise Wrong(head.position, "head_signature", f"the head of node {writer.node!r} does not hold")
            heads.append(head)
        return heads

    def _ends(self, log: LogRow, heads: list[SignedHead]) -> None:
        end, newest = self.walk.position, max(heads, key=lambda head: head.position, default=None)
        signed_to = newest.position if newest is not None else 0
        if end > signed_to:
            raise Wrong(signed_to + 1, "unsigned", f"records follow after the last signed head, {signed_to}")
        if end < signed_to:
            raise Wrong(end + 1, "cut", f"the records end at {end}, the last signed head is at {signed_to}")
        if newest is not None:
            meets(self.walk, newest)
            self.head = newest
        if (log.position, log.chain) != (end, self.walk.chain):
            raise Wrong(end, "index", f"table log: it says that the log ends at {log.position}, not at {end}")

    def _tables(self, db: Database) -> None:
        """Compare what the store goes on from (versions, input positions) with the records."""
        stored = db.execute("SELECT convert_to(cell, 'UTF8'), version FROM cells WHERE version > 0", binary=True)
        check_versions(self.walk, dict(stored.fetchall()))
        query = """SELECT e.position, e.cell, i.key, i.value::bigint, p.position
            FROM cells c JOIN events e ON e.cell = c.cell AND e.version = c.version
            CROSS JOIN LATERAL json_each_text(e.inputs::json) i
            LEFT JOIN positions p ON p.cell = c.cell AND p.source = i.key
            WHERE p.position IS NULL OR p.position < i.value::bigint LIMIT 1"""
        for position, cell, source, said, held in db.execute(query, binary=True):
            detail = f"input {source!r} of cell {cell!r} is at {held}, its last record at {said}"
            raise Wrong(position, "index", f"table positions: {detail}")
