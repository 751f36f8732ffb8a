"""The one writer of a SQLite log: groups of appends as transactions, the signed head, the WAL. Synchronous.

Used by one thread at a time. An append is durable when `commit` returns: SQLite syncs the WAL at each commit, and the
head that signs the log's end is part of the same transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.clock import Clock
from connectors.eventlog.chain import head_text, sign
from connectors.eventlog.fence import UNTAKEN, CellRow, check_fence, moved
from connectors.eventlog.headfile import HeadFile
from connectors.eventlog.work import Append, End, Take, Work, chained
from schemas.errors import Fenced, LogHalted
from schemas.records import Appended, SignedHead, Taken

HEAD_SYNC_S = 1.0
"""How long `log.head` may be in the kernel only: what a power cut can take from it."""
CHECKPOINT_COMMITS = 128
"""Commits after which the WAL is moved into the database, in the next pause: a WAL that is written over is synced
faster (0.3 ms) than one that grows (0.6 ms), since the file system has no new length to record."""
CHECKPOINT_COMMITS_MAX = 256
"""Commits after which it is moved without waiting for a pause: some 12 MB of WAL."""
PAUSE_S = 0.05
"""So long without an append is a pause."""


class LogWriter:
    """The connection that writes, the key that signs, and the file of the head."""

    def __init__(
        self, db: sqlite3.Connection, head_file: HeadFile, head: SignedHead, key: Ed25519PrivateKey, clock: Clock
    ) -> None:
        """Go on at `head`.

        Args:
            db: The writer's connection.
            head_file: Where the head is put after each commit.
            head: The log's present end.
            key: Signs the next ends.
            clock: Gives `recorded_at`.
        """
        self._db, self._head_file, self._key, self._clock = db, head_file, key, clock
        self.head = head
        """The log's end as last committed."""
        self.halted = ""
        """Why nothing is accepted any more; empty while all is well."""
        self.grown: Callable[[], None] = lambda: None
        """Called after each commit that added facts."""
        self._commits_n = 0
        self._head_synced_at_s = time.monotonic()
        self._head_dirty = False

    def commit(self, group: Sequence[Work]) -> list[Appended | Taken | Exception]:
        """Do all of `group` in one durable transaction; each piece is fenced on its own.

        Returns:
            For each piece its result, a `Fenced`, or for all of them a `LogHalted`.
        """
        if self.halted:
            return [LogHalted(self.halted) for _ in group]
        try:
            before = self.head.position
            results = self._transact(group)
            if self.head.position != before:
                self._head_file.write(self.head)
                self._head_dirty = True
                self.grown()
        except (sqlite3.Error, OSError) as error:
            self._halt("commit", error)
            return [LogHalted(self.halted) for _ in group]
        self._commits_n += 1
        return results

    def between(self, paused: bool) -> float | None:
        """Do what is due beside committing: sync the head file, move the WAL into the database.

        Returns:
            Seconds after which to call again with `paused`, if nothing is committed meanwhile; None: nothing is due.
        """
        if self.halted:
            return None
        try:
            if self._commits_n >= (CHECKPOINT_COMMITS if paused else CHECKPOINT_COMMITS_MAX):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._commits_n = 0
            if self._head_dirty and time.monotonic() - self._head_synced_at_s >= HEAD_SYNC_S:
                self._sync_head()
        except (sqlite3.Error, OSError) as error:
            self._halt("upkeep", error)
            return None
        return PAUSE_S if self._head_dirty or self._commits_n >= CHECKPOINT_COMMITS else None

    def close(self) -> None:
        """Leave the log as one database file, if the disk lets us, and close it."""
        with contextlib.suppress(sqlite3.Error, OSError):
            if not self.halted:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                if self._head_dirty:
                    self._sync_head()
        self._db.close()
        self._head_file.close()

    def _transact(self, group: Sequence[Work]) -> list[Appended | Taken | Exception]:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        end = self._read_end()
        start = end.position
        results: list[Appended | Taken | Exception] = []
        for work in group:
            try:
                results.append(self._append(work, end) if isinstance(work, Append) else self._take(work))
            except Fenced as fenced:
                results.append(fenced)
        head = self.head
        if end.position != start:
            head = sign(self._key, head.log_id, end.position, end.chain, end.recorded_at)
            db.execute("UPDATE head SET text = ?", (head_text(head),))
        db.execute("COMMIT")
        self.head = head
        return results

    def _read_end(self) -> End:
        query = "SELECT position, chain, recorded_at FROM events ORDER BY position DESC LIMIT 1"
        row = self._db.execute(query).fetchone()
        return End(*row) if row is not None else End(0, self.head.chain, 0)

    def _append(self, work: Append, end: End) -> Appended:
        db, cell = self._db, work.cell
        stored, positions = self._cell(cell), self._positions(cell)
        check_fence(cell, stored, positions, expected=work.expected, advance=work.advance, epoch=work.epoch)
        inputs = msgspec.json.encode(moved(positions, work.advance))
        end.recorded_at = max(end.recorded_at, self._clock.now_us())
        rows = chained(work, stored.version, inputs, end)
        named = [(subject, row[0]) for row, fact in zip(rows, work.facts, strict=True) for subject in fact.subjects]
        version = stored.version + len(rows)
        db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO subjects VALUES (?, ?)", named)
        moves = [(cell, source, to) for source, (_, to) in work.advance.items()]
        db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", moves)
        db.execute("UPDATE cells SET version = ? WHERE cell = ?", (version, cell))
        return Appended(version, end.position)

    def _take(self, work: Take) -> Taken:
        stored = self._cell(work.cell)
        epoch = stored.epoch + 1
        self._db.execute("INSERT OR REPLACE INTO cells VALUES (?, ?, ?)", (work.cell, stored.version, epoch))
        return Taken(epoch, stored.version, self._positions(work.cell))

    def _cell(self, cell: str) -> CellRow:
        row = self._db.execute("SELECT version, epoch FROM cells WHERE cell = ?", (cell,)).fetchone()
        return CellRow(*row) if row is not None else UNTAKEN

    def _positions(self, cell: str) -> dict[str, int]:
        return dict(self._db.execute("SELECT source, position FROM positions WHERE cell = ? ORDER BY source", (cell,)))

    def _sync_head(self) -> None:
        self._head_file.sync()
        self._head_dirty, self._head_synced_at_s = False, time.monotonic()

    def _halt(self, during: str, error: Exception) -> None:
        where, remedy = self._head_file.folder, "free or mend the disk, then start again"
        self.halted = f"{where}: {during} failed: {error}: nothing more is accepted; {remedy}"
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
