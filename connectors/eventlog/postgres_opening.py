"""What happens before a node writes a shared log: is its end whole, and does it hold what this node signed last?

A node's `log.head` is written right after each of its commits, so it is behind the database by one group at most. A
database that ends before it, or holds another chain there, was cut, put back to an older copy, or is another one.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.clock import Clock
from connectors.eventlog.chain import head_text, sign, signature_holds
from connectors.eventlog.headfile import HEAD_FILE, HeadFile, HeadsFound, read_heads
from connectors.eventlog.keys import KEY_FILE, PUBLIC_KEY_FILE, load_key, make_keys
from connectors.eventlog.opening import OPEN_CHECK_N
from connectors.eventlog.postgres_connect import Database, connect, name_of
from connectors.eventlog.postgres_session import refused
from connectors.eventlog.postgres_tables import (
    LogRow,
    chain_at,
    head_of,
    last_position,
    make_ready,
    raw_rows,
    read_log,
    read_writers,
)
from connectors.eventlog.postgres_writing import WRITE_HEAD, PostgresWriter
from connectors.eventlog.walk import Walk
from schemas.errors import LogCorrupt, LogError
from schemas.records import SignedHead
from schemas.settings import PostgresSettings

_REMEDY = "run `jidoka log verify` and restore the database from a backup that holds it"
_CHUNK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Opened:
    """A shared log that this node may write."""

    writer: PostgresWriter
    notes: tuple[str, ...]
    """What was found and mended, for people; empty after an orderly end."""


def open_writer(settings: PostgresSettings, folder: Path, clock: Clock) -> Opened:
    """Open the log, or begin one. The node's folder is locked by the caller.

    Raises:
        ConnectionFault: no connection; names the setting and the remedy.
        LogError: it is no log, the node's key is missing, or the disk refuses.
        LogCorrupt: its end was cut or edited.
    """
    db = connect(settings, writes=True)
    try:
        make_ready(db, settings)
        key = _own_key(folder)
        return _resume(db, settings, folder, key, clock)
    except BaseException as error:
        db.close()
        if isinstance(error, psycopg.Error):
            raise refused(error, settings) from error
        if isinstance(error, OSError):
            raise LogError(f"{folder}: {error.strerror}: see that it can be written and the disk has room") from error
        raise


def _own_key(folder: Path) -> Ed25519PrivateKey:
    began = any((folder / name).exists() for name in (KEY_FILE, PUBLIC_KEY_FILE, HEAD_FILE))
    return load_key(folder) if began else make_keys(folder)


def _resume(db: Database, settings: PostgresSettings, folder: Path, key: Ed25519PrivateKey, clock: Clock) -> Opened:
    found = _heads_beside(folder, key.public_key().public_bytes_raw())
    beside = found.newest if found else None
    with db.transaction():
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        log = read_log(db)
        own = check_end(db, log, key.public_key().public_bytes_raw(), beside, name_of(settings))
    head = sign(key, log.log_id, log.position, log.chain, max(log.recorded_at, clock.now_us()))
    _register(db, folder, head)
    # The slot that is not the newest is written first, so that a whole head is there at any time.
    head_file = HeadFile(folder, head, first_slot=1 - found.slot if found else 0)
    return Opened(PostgresWriter(settings, db, head_file, head, key, clock), tuple(_notes(own, found)))


def _notes(own: SignedHead | None, found: HeadsFound | None) -> list[str]:
    notes = []
    if found and found.newest and own and (behind_n := own.position - found.newest.position) > 0:
        notes.append(f"{HEAD_FILE} was {behind_n} records behind: the process ended between commit and head; mended")
    if found and found.bad_slots:
        notes.append(f"one of the two heads in {HEAD_FILE} was torn or edited; mended from the database's own")
    return notes


def _heads_beside(folder: Path, public_key: bytes) -> HeadsFound | None:
    """Return what this node signed last, as it lies in its folder; None: nothing yet.

    Raises:
        LogCorrupt: no head there is ours.
    """
    try:
        found = read_heads(folder, public_key)
    except FileNotFoundError:
        return None
    if found.newest is None:
        raise LogCorrupt(0, "head_signature", f"{folder / HEAD_FILE}: no head has our signature: {_REMEDY}")
    return found


def check_end(db: Database, log: LogRow, public_key: bytes, beside: SignedHead | None, name: str) -> SignedHead | None:
    """Check the log's last records and every node's head.

    Returns:
        This node's own head in the database; None: it has not been here before.

    Raises:
        LogCorrupt: with the position and the kind of what is wrong.
    """
    if beside is not None and beside.log_id != log.log_id:
        raise LogCorrupt(
            0, "head_of_another_log",
            f"{name} holds log {log.log_id}, but this node's {HEAD_FILE} is of log {beside.log_id}: "
            "name the right database, or begin with an empty data folder",
        )  # fmt: skip
    last = last_position(db)
    if beside is not None and last < beside.position:
        raise LogCorrupt(last + 1, "cut", f"{name} ends at {last}, this node's head at {beside.position}: {_REMEDY}")
    if last != log.position:
        kind = "unsigned" if last > log.position else "cut"
        detail = f"the records end at {last}, the log's row says {log.position}: {_REMEDY}"
        raise LogCorrupt(min(last, log.position) + 1, kind, detail)
    heads = _heads_inside(db, log)
    own = next((head for head in heads if head.public_key == public_key), None)
    if own is None and beside is not None:
        raise LogCorrupt(beside.position, "head_missing", f"{name}: this node's row is gone: {_REMEDY}")
    if own is not None and beside is None and own.position:
        raise LogCorrupt(own.position, "head_missing", f"this node's {HEAD_FILE} is missing: restore its folder")
    if own is not None and beside is not None and own.position < beside.position:
        raise LogCorrupt(own.position + 1, "cut", f"{name}: this node's row is older than its {HEAD_FILE}: {_REMEDY}")
    _check_tail(db, log, [*heads, *([beside] if beside else [])], beside)
    return own


def _heads_inside(db: Database, log: LogRow) -> list[SignedHead]:
    heads = [head_of(writer) for writer in read_writers(db) if writer.head is not None]
    for head in heads:
        if head.log_id != log.log_id or not signature_holds(head, head.public_key):
            raise LogCorrupt(head.position, "head_signature", f"a node's head in the database does not hold: {_REMEDY}")
    signed_to = max((head.position for head in heads), default=0)
    if signed_to != log.position:
        kind = "unsigned" if signed_to < log.position else "cut"
        detail = f"the records end at {log.position}, the last signed head is at {signed_to}: {_REMEDY}"
        raise LogCorrupt(min(signed_to, log.position) + 1, kind, detail)
    return heads


def _check_tail(db: Database, log: LogRow, heads: list[SignedHead], beside: SignedHead | None) -> None:
    """Compute the chain anew from this node's last head on, or of the last records, and meet every signature there."""
    start = max(0, log.position - OPEN_CHECK_N)
    start = min(start, beside.position) if beside else start
    walk = Walk(start, chain_at(db, log.log_id, start), versions=None)
    signed = [(head.position, head.chain) for head in heads] + [(log.position, log.chain)]
    for position, chain in sorted(signed):
        if position < start:
            continue
        while walk.position < position:
            broken = walk.along(raw_rows(db, walk.position, position, _CHUNK_ROWS))
            if broken is not None:
                raise LogCorrupt(broken.position, "edited", f"the record's {broken.misfit} does not fit: {_REMEDY}")
        if walk.chain != chain:
            raise LogCorrupt(position, "rewritten", f"the chain is not the one that was signed: {_REMEDY}")


def _register(db: Database, folder: Path, head: SignedHead) -> None:
    """Enter this node among those who may sign, and its head; at each start, which then attests the present end."""
    node = f"{socket.gethostname()}:{folder.resolve()}"
    with db.transaction():
        query = "INSERT INTO writers (public_key, node) VALUES (%b, %b) ON CONFLICT DO NOTHING"
        db.execute(query, (head.public_key, node))
        db.execute(WRITE_HEAD, (head.public_key, head_text(head), os.urandom(16)))
