"""The log's database: its tables, its settings, and its rows as `Recorded`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec

from schemas.errors import LogCorrupt, LogError
from schemas.records import Recorded

DB_FILE = "log.sqlite"
APPLICATION_ID = 0x4A444B41
"""`JDKA`, at offset 68 of the file, so that `file` and we know a log from any other database."""
FORMAT = 1
"""`user_version`: raised by a change that older code cannot read."""
PAGE_BYTES = 8192
BUSY_S = 5.0
"""How long SQLite waits for a lock of another process, e.g. a reader that recovers the WAL."""
CACHE_KIB = 16_384

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    cell TEXT NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    inputs TEXT NOT NULL,
    data BLOB NOT NULL,
    chain BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_of_cell ON events (cell, version);
CREATE TRIGGER events_are_not_edited BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'facts are immutable'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'facts are immutable'); END;
CREATE TABLE cells (cell TEXT PRIMARY KEY, version INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    cell TEXT NOT NULL, source TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (cell, source)
) STRICT, WITHOUT ROWID;
CREATE TABLE subjects (
    subject TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (subject, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), text BLOB NOT NULL) STRICT;
"""

COLUMNS = "position, cell, version, type, recorded_at, inputs, data, chain"
_RAW = ", ".join(f"CAST({c} AS BLOB)" if c in ("cell", "type", "inputs") else c for c in COLUMNS.split(", "))

_INPUTS = msgspec.json.Decoder(dict[str, int])
Row = tuple[int, str, int, str, int, str, bytes, bytes]
"""`COLUMNS` of one event."""


def connect_writer(folder: Path) -> sqlite3.Connection:
    """Open the database for the one writer: WAL, every commit synced, checkpoints only when we say so."""
    db = sqlite3.connect(folder / DB_FILE, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        for setting in (
            f"page_size = {PAGE_BYTES}", "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 0",
            "cell_size_check = ON", "trusted_schema = OFF", "temp_store = MEMORY", f"cache_size = -{CACHE_KIB}",
        ):  # fmt: skip
            db.execute(f"PRAGMA {setting}")
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(folder: Path) -> sqlite3.Connection:
    """Open the database for reading only, beside a running writer or after it.

    Raises:
        LogError: there is no log, or it can neither be read beside its WAL nor without.
    """
    path = folder / DB_FILE
    if not path.is_file():
        raise LogError(f"{path}: there is no log here: name the folder that holds {DB_FILE}")
    db = _connect_uri(path, "mode=ro")
    try:
        db.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        db.close()
        # On a read-only disk SQLite cannot make the file that it shares with writers; without a WAL it needs none.
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise LogError(f"{path}: {error}: copy the folder to a disk that can be written") from error
        db = _connect_uri(path, "mode=ro&immutable=1")
    except sqlite3.DatabaseError:
        pass  # Whoever reads meets it again, and names it.
    return db


def _connect_uri(path: Path, parameters: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{parameters}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def create_tables(db: sqlite3.Connection, log_id: str, head: bytes) -> None:
    """Make an empty log in one transaction, with the text of its first head."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _statements(_TABLES):
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('log_id', ?)", (log_id,))
    db.execute("INSERT INTO head VALUES (1, ?)", (head,))
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def is_empty(db: sqlite3.Connection) -> bool:
    """Tell whether nothing was ever made in this database."""
    (tables_n,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return int(tables_n) == 0


def check_format(db: sqlite3.Connection, path: Path) -> None:
    """Make sure that this is a log that we can read.

    Raises:
        LogError: it is another kind of database, or one written by a newer version.
    """
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise LogError(f"{path}: not a log (application id {application_id:#x}): name another folder")
    if version != FORMAT:
        raise LogError(f"{path}: log format {version}, this program reads {FORMAT}: install the version that wrote it")


def read_log_id(db: sqlite3.Connection) -> str:
    """Return the log's own id.

    Raises:
        LogCorrupt: it is gone.
    """
    row = db.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()
    if row is None:
        raise LogCorrupt(0, "not_a_log", "the log's id is gone from its database: restore it from a backup")
    return str(row[0])


def raw_rows(db: sqlite3.Connection, after: int, to: int, rows_max: int = -1) -> sqlite3.Cursor:
    """Select the events after one position up to another, text as its stored bytes, in order; -1: without a bound."""
    query = f"SELECT {_RAW} FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
    return db.execute(query, (after, to, rows_max))


_OF_THE_DISK = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_LOCKED,
}  # fmt: skip


def named(error: sqlite3.Error, path: Path) -> LogError:
    """Say what SQLite's error means: the disk refused (`LogError`), or the file is damaged (`LogCorrupt`)."""
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _OF_THE_DISK:
        return LogError(f"{path}: {error}: see that the folder can be written and the disk has room")
    return LogCorrupt(0, "unreadable", f"{path}: {error}: run `jidoka log verify` and restore it from a backup")


def recorded(row: Row) -> Recorded:
    """Return the row as a record.

    Raises:
        LogCorrupt: its input positions are no positions.
    """
    position, cell, version, type_, recorded_at, inputs, data, chain = row
    return Recorded(position, cell, version, type_, recorded_at, _positions(inputs, position), data, chain)


def _positions(inputs: str, position: int) -> Mapping[str, int]:
    try:
        return _INPUTS.decode(inputs)
    except msgspec.DecodeError as error:
        raise LogCorrupt(position, "edited", f"input positions {inputs!r} are no positions: {error}") from error


def _statements(script: str) -> list[str]:
    statements, begun = [], ""
    for part in script.split(";"):
        begun += part + ";"
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements
