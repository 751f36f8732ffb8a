"""The shared log's schema in PostgreSQL. Run as a program it prints the SQL, for an administrator who makes it himself.

What proves the log (`events`, `writers`, `blobs`) can only grow: triggers refuse everything but INSERT, and the role
that writes has no more rights than that. The rest (`log`, `heads`, `cells`, `positions`, `subjects`) can be derived
from it, or is checked against it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import psycopg

from connectors.eventlog.chain import genesis, parse_head
from connectors.eventlog.postgres_connect import SCHEMA, Database
from connectors.eventlog.postgres_session import refused
from connectors.eventlog.postgres_standstill import FUNCTION
from connectors.eventlog.tables import COLUMNS
from connectors.eventlog.walk import RawRow
from schemas.errors import CodecError, LogCorrupt, LogError
from schemas.records import SignedHead
from schemas.settings import PostgresSettings

FORMAT = 1
"""Raised by a change that older code cannot read."""
_MAKING = 0x4A444B41
"""The advisory lock of whoever makes the tables."""

TABLES = f"""\
CREATE SCHEMA {SCHEMA};
SET LOCAL search_path = {SCHEMA}, pg_catalog;

CREATE FUNCTION only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %: facts are immutable', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE FUNCTION goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.log_id <> OLD.log_id OR NEW.position < OLD.position OR NEW.recorded_at < OLD.recorded_at THEN
        RAISE EXCEPTION 'the log does not go back' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION cell_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version < OLD.version OR NEW.epoch < OLD.epoch THEN
        RAISE EXCEPTION 'a cell does not go back' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

-- One row: the end of the log. Whoever appends locks it, and so there is one chain.
CREATE TABLE log (
    id smallint PRIMARY KEY CHECK (id = 1), format integer NOT NULL, log_id text NOT NULL, position bigint NOT NULL,
    chain bytea NOT NULL, recorded_at bigint NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE events (
    position bigint PRIMARY KEY, cell text COLLATE "C" NOT NULL, version bigint NOT NULL, type text NOT NULL,
    recorded_at bigint NOT NULL, inputs text NOT NULL, data bytea NOT NULL, chain bytea NOT NULL,
    UNIQUE (cell, version)
);
CREATE TABLE subjects (
    subject text COLLATE "C" NOT NULL, position bigint NOT NULL, PRIMARY KEY (subject, position)
);
CREATE TABLE cells (
    cell text COLLATE "C" PRIMARY KEY, version bigint NOT NULL, epoch bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE positions (
    cell text COLLATE "C" NOT NULL, source text COLLATE "C" NOT NULL, position bigint NOT NULL,
    PRIMARY KEY (cell, source)
) WITH (fillfactor = 50);
-- Who may sign: a row a node, made at its first start.
CREATE TABLE writers (
    public_key bytea PRIMARY KEY, node text NOT NULL, registered_by text NOT NULL DEFAULT session_user,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- The last head that each node signed, and a mark by which it finds out whether its last commit was done.
CREATE TABLE heads (
    public_key bytea PRIMARY KEY REFERENCES writers, text bytea NOT NULL, mark bytea NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE blobs (sha256 bytea PRIMARY KEY, data bytea NOT NULL);
ALTER TABLE blobs ALTER data SET STORAGE EXTERNAL;
CREATE TABLE states (
    cell text COLLATE "C" PRIMARY KEY, position bigint NOT NULL, "offset" bigint NOT NULL, sha256 bytea NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE states ALTER data SET STORAGE EXTERNAL;

CREATE TRIGGER events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON events EXECUTE FUNCTION only_grows();
CREATE TRIGGER writers_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON writers EXECUTE FUNCTION only_grows();
CREATE TRIGGER blobs_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON blobs EXECUTE FUNCTION only_grows();
CREATE TRIGGER log_stays BEFORE DELETE OR TRUNCATE ON log EXECUTE FUNCTION only_grows();
CREATE TRIGGER log_goes_on BEFORE UPDATE ON log FOR EACH ROW EXECUTE FUNCTION goes_on();
CREATE TRIGGER cells_stay BEFORE DELETE OR TRUNCATE ON cells EXECUTE FUNCTION only_grows();
CREATE TRIGGER cells_go_on BEFORE UPDATE ON cells FOR EACH ROW EXECUTE FUNCTION cell_goes_on();

INSERT INTO log VALUES (1, {FORMAT}, gen_random_uuid()::text, 0, '', 0);

{FUNCTION}"""

_RAW = ", ".join(f"convert_to({c}, 'UTF8')" if c in ("cell", "type", "inputs") else c for c in COLUMNS.split(", "))


@dataclass(frozen=True, slots=True)
class LogRow:
    """The row that says where the log ends."""

    log_id: str
    position: int
    chain: bytes
    """The genesis while there is no record."""
    recorded_at: int


@dataclass(frozen=True, slots=True)
class Writer:
    """A node that may sign, and what it signed last."""

    public_key: bytes
    node: str
    registered_by: str
    registered_at: str
    head: bytes | None
    """Text of its last head; None: it has none."""


def make_ready(db: Database, settings: PostgresSettings) -> None:
    """Make the tables if there are none, and see that the server keeps what it acknowledges. Safe for several at once.

    Raises:
        LogError: they cannot be made, are of a newer format, or the server forgets.
    """
    try:
        _check_server(db, settings)
        if not _made(db):
            _make(db)
    except psycopg.errors.InsufficientPrivilege as error:
        raise refused(error, settings) from error
    read_log(db)


def _check_server(db: Database, settings: PostgresSettings) -> None:
    for name, remedy in (("fsync", "on"), ("full_page_writes", "on"), ("server_encoding", "UTF8")):
        value = db.execute(f"SHOW {name}").fetchall()[0][0]
        if value != remedy:
            raise LogError(f"{settings.host}: the server has {name} = {value}: it needs {remedy}, or facts get lost")
    query = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN "
    db.execute(query + "('off', 'local', 'remote_write')")


def _made(db: Database) -> bool:
    query = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'log'"
    return db.execute(query, (SCHEMA,)).fetchone() is not None


def _make(db: Database) -> None:
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
        if not _made(db):
            db.execute(TABLES.encode(), prepare=False)


def read_log(db: Database) -> LogRow:
    """Return where the log ends.

    Raises:
        LogError: there is no log, or one of a newer format.
        LogCorrupt: its row is gone.
    """
    try:
        row = db.execute("SELECT format, log_id, position, chain, recorded_at FROM log", binary=True).fetchone()
    except psycopg.errors.UndefinedTable as error:
        raise LogError(f"{db.info.host}: database {db.info.dbname!r} holds no log: name the one that does") from error
    except psycopg.errors.InsufficientPrivilege as error:
        said = "give postgres.user the role jidoka_writer or jidoka_reader, see deploy/postgres/roles.sql"
        raise LogError(f"{db.info.host}: {db.info.user!r} may not read the log: {said}") from error
    if row is None:
        raise LogCorrupt(0, "not_a_log", "the log's own row is gone from its database: restore it from a backup")
    format_, log_id, position, chain, recorded_at = row
    if format_ != FORMAT:
        raise LogError(
            f"{db.info.host}: log format {format_}, this program reads {FORMAT}: install the one that wrote it"
        )
    return LogRow(log_id, position, bytes(chain) if position else genesis(log_id), recorded_at)


def read_writers(db: Database) -> list[Writer]:
    """Return every node that was registered, in order."""
    query = """SELECT w.public_key, w.node, w.registered_by, w.registered_at::text, h.text
        FROM writers w LEFT JOIN heads h USING (public_key) ORDER BY w.registered_at, w.public_key"""
    return [Writer(*row) for row in db.execute(query, binary=True)]


def end_head(db: Database) -> SignedHead | None:
    """Return the newest head, whoever signed it; the signature is not checked here. None: nobody signed any.

    Raises:
        LogCorrupt: a head is not one.
    """
    heads = [head_of(writer) for writer in read_writers(db) if writer.head is not None]
    return max(heads, key=lambda head: (head.position, head.signed_at), default=None)


def head_of(writer: Writer) -> SignedHead:
    """Return a node's last head; the signature is not checked here.

    Raises:
        LogCorrupt: it is not a head, or not of this node.
    """
    try:
        head = parse_head(writer.head or b"")
    except CodecError as error:
        raise LogCorrupt(0, "head_signature", f"the last head of node {writer.node!r} is no head") from error
    if head.public_key != writer.public_key:
        raise LogCorrupt(head.position, "head_signature", f"the last head of node {writer.node!r} names another key")
    return head


def last_position(db: Database) -> int:
    """Return the position of the last record, 0 if there is none."""
    row = db.execute("SELECT coalesce(max(position), 0) FROM events", binary=True).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])


def chain_at(db: Database, log_id: str, position: int) -> bytes:
    """Return the stored link at `position`, the genesis for 0."""
    if position == 0:
        return genesis(log_id)
    row = db.execute("SELECT chain FROM events WHERE position = %b", (position,), binary=True).fetchone()
    return bytes(row[0]) if row is not None else b""


def raw_rows(db: Database, after: int, to: int, rows_max: int) -> list[RawRow]:
    """Return the events after one position up to another, text as its stored bytes, in order."""
    query = f"SELECT {_RAW} FROM events WHERE position > %b AND position <= %b ORDER BY position LIMIT %b"
    return db.execute(query, (after, to, rows_max), binary=True).fetchall()


if __name__ == "__main__":
    sys.stdout.write(f"BEGIN;\n{TABLES}COMMIT;\n")
