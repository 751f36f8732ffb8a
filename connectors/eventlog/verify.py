"""Is a log still what was written? Every payload is read and hashed again, offline or while the agent runs.

Needs nothing but the folder, and nothing secret. It believes `log.pub` unless it is given a key that was kept
elsewhere, and can be given a head that was kept elsewhere too: those two are what a forger with the private key, or
with an old copy of the whole folder, cannot bring along. See docs/event-log.md for what is found and what is not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from connectors.eventlog.chain import genesis, signature_holds
from connectors.eventlog.headfile import HEAD_FILE, HeadsFound, read_heads
from connectors.eventlog.keys import PUBLIC_KEY_FILE, load_public_key
from connectors.eventlog.opening import last_position, own_head
from connectors.eventlog.tables import DB_FILE, check_format, connect_reader, raw_rows, read_log_id
from connectors.eventlog.walk import Break, RawRow, Walk, link_or_none
from schemas.errors import LogCorrupt, LogError
from schemas.records import SignedHead

Kind = Literal[
    "not_a_log", "unreadable", "key_missing", "foreign_key", "head_missing", "head_signature", "head_of_another_log",
    "edited", "deleted", "inserted", "reordered", "cut", "rewritten", "unsigned", "version_gap", "index",
]  # fmt: skip
"""What can be wrong; see docs/event-log.md."""

CHUNK_ROWS = 10_000
"""Rows per query: no snapshot, and with it the WAL, is held longer."""

Progress = Callable[[int, int], None]
"""Called with records checked and records there are."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result: all is well, or the first bad position and its kind."""

    checked_n: int
    """Records that verified, from the first on."""
    head: SignedHead | None
    """The newest head whose signature holds."""
    position: int | None = None
    """Where it is wrong first; 0: not at a record. None: all is well."""
    kind: Kind | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.kind is None


SHIFT_MAX = 1000
"""Renumbering by up to so many records is recognised as such; by more, it is `edited`."""

_NO_END = 2**62


class _Wrong(Exception):
    def __init__(self, position: int, kind: Kind, detail: str) -> None:
        self.position, self.kind, self.detail = position, kind, detail
        super().__init__(detail)


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
    except _Wrong as wrong:
        return Verification(check.checked_n, check.head, wrong.position, wrong.kind, wrong.detail)
    except LogCorrupt as error:
        kind = cast(Kind, error.kind)
        return Verification(check.checked_n, check.head, error.position, kind, error.detail)
    except (sqlite3.Error, OSError) as error:
        detail = f"cannot read on after record {check.checked_n}: {error}"
        return Verification(check.checked_n, check.head, check.checked_n + 1, "unreadable", detail)
    return Verification(check.checked_n, check.head)


class _Check:
    """One run over one log. Each step raises `_Wrong` for the first thing that it finds."""

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
            raise _Wrong(0, "not_a_log", f"{self.folder}: neither {DB_FILE} nor {HEAD_FILE} is here")
        # Heads are read before records: a log that grows meanwhile is ahead of them, never behind.
        key = self._key()
        found = self._heads(key)
        self.head = found.newest if found else None
        try:
            db = connect_reader(self.folder)
        except LogError as error:
            raise _Wrong(1, "cut", str(error)) from error
        try:
            self._records(db, key)
            self._indices(db)
        finally:
            db.close()
        if found is None:
            raise _Wrong(self.checked_n, "head_missing", f"{self.folder / HEAD_FILE} is missing")
        if found.bad_slots:
            detail = f"{HEAD_FILE}: {len(found.bad_slots)} of its 2 heads were edited, or torn by a power cut"
            raise _Wrong(self.head.position if self.head else self.checked_n, "head_signature", detail)

    def _key(self) -> bytes:
        try:
            key = load_public_key(self.folder)
        except LogError as error:
            if self.public_key is None:
                raise _Wrong(0, "key_missing", str(error)) from error
            return self.public_key
        if self.public_key is not None and key != self.public_key:
            raise _Wrong(0, "foreign_key", f"{PUBLIC_KEY_FILE} is not the key that you gave")
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
            raise _Wrong(0, "not_a_log", str(error)) from error
        log_id = read_log_id(db)
        heads = [head for head in (self.head, self.against) if head is not None]
        for head in heads:
            if head.log_id != log_id:
                raise _Wrong(0, "head_of_another_log", f"the head is of log {head.log_id!r}, the records of {log_id!r}")
            if not signature_holds(head, key):
                raise _Wrong(head.position, "head_signature", "the signature of the head that was kept does not hold")
        self.walk.chain = genesis(log_id)
        for head in sorted(heads, key=lambda head: head.position):
            self._walk_to(db, head.position)
            self._meets(head)
        self._walk_to(db, None)
        db.execute("BEGIN")  # One snapshot for the last records, the head inside and the tables beside.
        self._walk_to(db, None)
        self._ends(db, own_head(db, log_id, key))
        self._tables(db)
        db.execute("COMMIT")

    def _walk_to(self, db: sqlite3.Connection, to: int | None) -> None:
        """Go on to the record at `to`; None: to the last."""
        walk, last = self.walk, _NO_END if to is None else to
        total = last_position(db)
        while walk.position < last:
            before = walk.position
            broken = walk.along(raw_rows(db, before, last, CHUNK_ROWS))
            if broken is not None:
                raise _diagnosis(db, walk, broken)
            if walk.position == before:
                break
            self.progress(walk.position, max(total, walk.position))
        if to is not None and walk.position < to:
            kind: Kind = "deleted" if total > walk.position else "cut"
            detail = f"the signed head is at {to}; after {walk.position} no record of that stretch is left"
            raise _Wrong(walk.position + 1, kind, detail)

    def _meets(self, head: SignedHead) -> None:
        if self.walk.chain != head.chain:
            detail = "the chain up to here is sound in itself, but not the one that was signed"
            raise _Wrong(head.position, "rewritten", detail)

    def _ends(self, db: sqlite3.Connection, own: SignedHead) -> None:
        end = self.walk.position
        if end > own.position:
            raise _Wrong(own.position + 1, "unsigned", f"records follow after the head in the database, {own.position}")
        if end < own.position:
            raise _Wrong(end + 1, "cut", f"the records end at {end}, the head in the database is at {own.position}")
        self._meets(own)

    def _tables(self, db: sqlite3.Connection) -> None:
        """Compare what the store goes on from (versions, input positions) with the records."""
        versions = {cell: version for cell, version in self.walk.versions.items() if version}
        stored = dict(db.execute("SELECT CAST(cell AS BLOB), version FROM cells WHERE version > 0"))
        for cell in versions.keys() | stored.keys():
            if versions.get(cell) != stored.get(cell):
                detail = f"cell {cell!r} is at version {stored.get(cell)}, its records at {versions.get(cell)}"
                raise _Wrong(self.checked_n, "index", f"table cells: {detail}")
        query = """SELECT e.position, e.cell, i.key, i.value, p.position
            FROM cells c JOIN events e ON e.cell = c.cell AND e.version = c.version, json_each(e.inputs) i
            LEFT JOIN positions p ON p.cell = c.cell AND p.source = i.key
            WHERE p.position IS NULL OR p.position < i.value LIMIT 1"""
        for position, cell, source, said, held in db.execute(query):
            detail = f"input {source!r} of cell {cell!r} is at {held}, its last record at {said}"
            raise _Wrong(position, "index", f"table positions: {detail}")

    def _indices(self, db: sqlite3.Connection) -> None:
        """Let SQLite compare its indices with its tables: reading by cell goes through them."""
        (answer,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise _Wrong(self.checked_n, "index", f"SQLite says: {answer}")


def _diagnosis(db: sqlite3.Connection, walk: Walk, broken: Break) -> _Wrong:
    """Name what was done at the first row that does not fit."""
    at, row = broken.position, broken.row
    if broken.misfit == "version":
        detail = f"version {row[2]!r} of cell {row[1]!r} follows {walk.versions.get(row[1], 0)}"
        return _Wrong(at, "version_gap", detail)
    moved_to = _where_it_went(db, walk, broken)
    if moved_to is not None:
        return _Wrong(at, "reordered", f"the record that belongs here is at {moved_to}")
    if broken.misfit == "position":
        return _Wrong(at, "deleted", f"the next record is at {row[0]}")
    shift = _shift(db, row)
    if shift > 0:
        return _Wrong(at, "deleted", f"{shift} records are gone and the rest was renumbered")
    if shift < 0:
        return _Wrong(at, "inserted", f"{-shift} records were put in and the rest was renumbered")
    return _Wrong(at, "edited", "what is stored is not what was chained")


def _where_it_went(db: sqlite3.Connection, walk: Walk, broken: Break) -> int | None:
    """Look through the whole log for the row that fits at the break; None: it is nowhere."""
    at, stored = broken.position, broken.row[7]
    row: RawRow
    for row in raw_rows(db, walk.position, _NO_END):
        if row[0] == at:
            continue
        expected = walk.versions.get(row[1], 0) + 1
        for version in {row[2], expected} if isinstance(row[2], int) else (expected,):
            computed = link_or_none(walk.chain, row, position=at, version=version)
            if computed is not None and computed in (row[7], stored):
                return row[0]
    return None


def _shift(db: sqlite3.Connection, row: RawRow) -> int:
    """Tell by how much the rows after `row` were renumbered, above 0 if downwards; 0: not, as far as one sees."""
    for after in raw_rows(db, row[0], _NO_END, 1):
        for shift in range(1, SHIFT_MAX + 1):
            for signed in (shift, -shift):
                if link_or_none(row[7], after, position=after[0] + signed) == after[7]:
                    return signed
    return 0
