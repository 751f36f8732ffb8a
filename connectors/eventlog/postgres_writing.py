"""One node's writer of a shared log: groups of appends as transactions, the signed head, lost connections. Synchronous.

Used by one thread at a time. Each group's transaction locks the one row that says where the log ends, so that all nodes
write one chain, and leaves this node's signed head with a mark of its own. When a connection is lost while it commits,
the mark tells whether the commit was done: it is looked for under the same lock, which is only had once the lost
transaction has ended, one way or the other.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.clock import Clock
from connectors.eventlog.chain import genesis, head_text, sign
from connectors.eventlog.filling import Filling, begun
from connectors.eventlog.headfile import HeadFile
from connectors.eventlog.postgres_connect import Database, connect, name_of
from connectors.eventlog.postgres_session import Retry, away, may_pass, refused
from connectors.eventlog.postgres_standstill import end_standstill
from connectors.eventlog.work import End, Work
from connectors.eventlog.writing import HEAD_SYNC_S, PAUSE_S
from schemas.errors import ConnectionFault, LogError, LogHalted
from schemas.records import Appended, SignedHead, Taken
from schemas.settings import PostgresSettings

LOCK = "SELECT position, chain, recorded_at FROM log FOR UPDATE"
_CELLS = "SELECT cell, version, epoch FROM cells WHERE cell = ANY(%b)"
_POSITIONS = "SELECT cell, source, position FROM positions WHERE cell = ANY(%b)"
_EVENTS = """INSERT INTO events SELECT * FROM unnest(
    %b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::bytea[], %b::bytea[])"""
_SUBJECTS = "INSERT INTO subjects SELECT * FROM unnest(%b::text[], %b::bigint[]) ON CONFLICT DO NOTHING"
_WRITE_CELLS = """INSERT INTO cells SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bigint[])
    ON CONFLICT (cell) DO UPDATE SET version = excluded.version, epoch = excluded.epoch"""
_WRITE_POSITIONS = """INSERT INTO positions SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[])
    ON CONFLICT (cell, source) DO UPDATE SET position = excluded.position"""
_WRITE_LOG = "UPDATE log SET position = %b, chain = %b, recorded_at = %b"
_END = "COMMIT"
"""Also where nothing was written: after a ROLLBACK psycopg forgets its prepared statements, in a pipeline too late."""
_FAREWELLS = (psycopg.errors.AdminShutdown.sqlstate, psycopg.errors.CrashShutdown.sqlstate)
"""Codes of the warnings with which a server ends its connections. They take nothing from a COMMIT that it has answered;
ended while it waits for a copy, it answers no more."""
WRITE_HEAD = """INSERT INTO heads VALUES (%b, %b, %b)
    ON CONFLICT (public_key) DO UPDATE SET text = excluded.text, mark = excluded.mark"""


@dataclass(slots=True)
class _Try:
    """A transaction that is about to be committed, or was."""

    filling: Filling
    head: SignedHead
    """This node's head after it."""
    mark: bytes


class _RolledBack(Exception):
    """The server itself said that the transaction failed."""

    def __init__(self, error: psycopg.Error) -> None:
        self.error = error


class PostgresWriter:
    """The connection that writes, the key that signs, and the file of the node's head."""

    def __init__(
        self,
        settings: PostgresSettings,
        db: Database,
        head_file: HeadFile,
        head: SignedHead,
        key: Ed25519PrivateKey,
        clock: Clock,
    ) -> None:
        """Go on after `head`.

        Args:
            settings: For connecting again.
            db: The writer's connection.
            head_file: Where the head is put after each commit.
            head: The last that this node signed.
            key: Signs the next.
            clock: Gives `recorded_at`.
        """
        self._settings, self._head_file, self._key, self._clock = settings, head_file, key, clock
        self._db: Database | None = None
        self.head = head
        """What this node signed last; the log may have grown since by others."""
        self.halted = ""
        """Why nothing is accepted any more; empty while all is well."""
        self.grown: Callable[[], None] = lambda: None
        """Called after each commit that added facts."""
        self._warnings: list[str] = []
        self._head_synced_at_s = time.monotonic()
        self._head_dirty = False
        self._use(db)

    def commit(self, group: Sequence[Work]) -> list[Appended | Taken | Exception]:
        """Do all of `group` in one durable transaction; each piece is fenced on its own.

        Returns:
            For each piece its result or a `Fenced`; or for all of them a `LogHalted`, or a `LogError` if the server
            was away for too long and nothing was written.
        """
        if self.halted:
            return [LogHalted(self.halted) for _ in group]
        try:
            done = self._until_known(group)
            if done.head.position != self.head.position:
                self.head = done.head
                self._head_file.write(done.head)
                self._head_dirty = True
                self.grown()
        except LogError as error:
            return [error for _ in group]
        except OSError as error:
            return [self._halt(f"{self._head_file.folder}: {error}: free or mend the disk") for _ in group]
        return list(done.filling.answers)

    def between(self, paused: bool) -> float | None:
        """Do what is due beside committing: sync the head file.

        Returns:
            Seconds after which to call again, if nothing is committed meanwhile; None: nothing is due.
        """
        if self._head_dirty and time.monotonic() - self._head_synced_at_s >= HEAD_SYNC_S:
            try:
                self._sync_head()
            except OSError as error:
                self._halt(f"{self._head_file.folder}: {error}: free or mend the disk")
        return PAUSE_S if self._head_dirty and not self.halted else None

    def close(self) -> None:
        """Close the connection and the file of the head."""
        with contextlib.suppress(OSError):
            if self._head_dirty and not self.halted:
                self._sync_head()
        self._give_up()
        self._head_file.close()

    def _until_known(self, group: Sequence[Work]) -> _Try:
        """Try until the group is committed, or fenced as a whole, or it is known that it cannot be.

        Raises:
            LogError: nothing was written.
            LogHalted: the server refused, or nobody knows whether it was committed.
        """
        retry = Retry(self._settings.timeout_s)
        unknown: _Try | None = None
        error: psycopg.Error | ConnectionFault
        while True:
            try:
                db = self._connected()
                if unknown is not None and self._was_done(db, unknown):
                    return unknown
                unknown = None
                attempt = self._filled(db, group)
                if attempt.filling.writes:
                    unknown = attempt
                    self._write(db, attempt)
                else:
                    db.execute(_END)
                return attempt
            except _RolledBack as failed:
                error, unknown = failed.error, None
            except (psycopg.Error, ConnectionFault) as lost:
                error = lost
            if not may_pass(error, self._db):
                raise self._halt(_why(refused(error, self._settings), unknown)) from error
            self._give_up()
            if isinstance(error, psycopg.errors.QueryCanceled):
                self._make_way()
            if not retry.again():
                failure = away(error, self._settings)
                raise failure if unknown is None else self._halt(_why(failure, unknown)) from error

    def _make_way(self) -> None:
        """After a wait in vain: see whether somebody stands still in front of us."""
        with contextlib.suppress(psycopg.Error, ConnectionFault):  # The next attempt says what is wrong.
            end_standstill(self._connected(), self._settings)

    def _filled(self, db: Database, group: Sequence[Work]) -> _Try:
        """Lock the log's end, read what the group needs, and work out what to write."""
        names = sorted({work.cell for work in group})
        with db.pipeline():
            db.execute("BEGIN")
            end = db.execute(LOCK, binary=True)
            cells = db.execute(_CELLS, (names,), binary=True)
            positions = db.execute(_POSITIONS, (names,), binary=True)
            position, chain, recorded_at = end.fetchall()[0]
            stored = cells.fetchall(), positions.fetchall()
        log_id = self.head.log_id
        filling = begun(End(position, bytes(chain) if position else genesis(log_id), recorded_at), *stored)
        filling.fill(group, self._clock.now_us())
        after, head = filling.end, self.head
        if filling.rows:
            head = sign(self._key, log_id, after.position, after.chain, after.recorded_at)
        return _Try(filling, head, os.urandom(16))

    def _write(self, db: Database, attempt: _Try) -> None:
        """Write and commit in one round trip.

        Raises:
            psycopg.Error: the connection was lost, and nobody knows yet.
            _RolledBack: the server says that it failed, and so it was not committed.
            LogHalted: it is committed here, but the server says that it is not where it should be too.
        """
        self._warnings.clear()
        try:
            ended = self._send(db, attempt)
        except psycopg.Error as error:
            if not db.closed and db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
                raise _RolledBack(error) from error
            raise
        if ended.statusmessage != "COMMIT":  # No error is no proof: a pipeline that ends early may end in silence.
            raise psycopg.OperationalError("the connection was lost before the server answered the COMMIT")
        if self._warnings:
            # E.g. the copy on a standby was waited for in vain: that is less than what was promised.
            raise self._halt(f"{name_of(self._settings)}: committed, but the server warns: {'; '.join(self._warnings)}")

    def _send(self, db: Database, attempt: _Try) -> psycopg.Cursor[tuple[Any, ...]]:
        filling, end = attempt.filling, attempt.filling.end
        with db.pipeline():
            if filling.rows:
                db.execute(_EVENTS, [list(column) for column in zip(*filling.rows, strict=True)])
                db.execute(_WRITE_LOG, (end.position, end.chain, end.recorded_at))
            if filling.subjects:
                db.execute(_SUBJECTS, [list(column) for column in zip(*filling.subjects, strict=True)])
            cells = [(c, filling.cells[c].version, filling.cells[c].epoch) for c in sorted(filling.cells_written)]
            db.execute(_WRITE_CELLS, [list(column) for column in zip(*cells, strict=True)])
            moves = [(c, source, filling.positions[c][source]) for c, source in sorted(filling.inputs_moved)]
            if moves:
                db.execute(_WRITE_POSITIONS, [list(column) for column in zip(*moves, strict=True)])
            db.execute(WRITE_HEAD, (attempt.head.public_key, head_text(attempt.head), attempt.mark))
            return db.execute(_END)

    def _was_done(self, db: Database, attempt: _Try) -> bool:
        """Tell whether a transaction was committed whose connection was lost."""
        with db.pipeline():
            db.execute("BEGIN")
            db.execute(LOCK)  # Had only once the lost transaction has ended.
            marks = db.execute("SELECT mark FROM heads WHERE public_key = %b", (attempt.head.public_key,), binary=True)
            db.execute(_END)
            return marks.fetchall() == [(attempt.mark,)]

    def _connected(self) -> Database:
        if self._db is None:
            self._use(connect(self._settings, writes=True))
        assert self._db is not None
        return self._db

    def _use(self, db: Database) -> None:
        db.add_notice_handler(self._on_notice)
        db.execute("SET client_min_messages = warning")
        self._db = db

    def _on_notice(self, said: psycopg.errors.Diagnostic) -> None:
        if said.sqlstate not in _FAREWELLS:
            self._warnings.append(str(said.message_primary))

    def _give_up(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    def _sync_head(self) -> None:
        self._head_file.sync()
        self._head_dirty, self._head_synced_at_s = False, time.monotonic()

    def _halt(self, why: str) -> LogHalted:
        self.halted = f"{why}. Nothing more is accepted until the log is opened again"
        self._give_up()
        return LogHalted(self.halted)


def _why(failure: LogError, unknown: _Try | None) -> str:
    return f"{failure}: {'nothing was written' if unknown is None else 'nobody knows whether it was committed'}"
