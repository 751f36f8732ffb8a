"""What happens before a log is written again: is it whole, and does it end where its signed head says?

Every commit carries its own signed head inside the database, and the same head goes to `log.head` right after it. A
process that dies between the two leaves the file behind by one commit group, which is accepted since the database's own
head proves that we wrote it. A database that ends before the file's head was cut.
"""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.clock import Clock
from connectors.eventlog.chain import genesis, head_text, parse_head, sign, signature_holds
from connectors.eventlog.headfile import HEAD_FILE, HeadFile, HeadsFound, read_heads
from connectors.eventlog.keys import KEY_FILE, load_key, make_keys
from connectors.eventlog.tables import (
    DB_FILE,
    check_format,
    connect_writer,
    create_tables,
    is_empty,
    named,
    raw_rows,
    read_log_id,
)
from connectors.eventlog.walk import Walk
from connectors.eventlog.writing import LogWriter
from schemas.errors import CodecError, LogCorrupt, LogError
from schemas.records import SignedHead

OPEN_CHECK_N = 10_000
"""Records recomputed at every opening; the whole log is for `verify`."""

_REMEDY = "run `jidoka log verify` and restore the folder from a backup"


@dataclass(frozen=True, slots=True)
class Opened:
    """A log that may be written."""

    writer: LogWriter
    notes: tuple[str, ...]
    """What was found and mended, for people; empty after an orderly end."""


def open_writer(folder: Path, clock: Clock) -> Opened:
    """Open the log in `folder`, or begin one there. The folder is locked by the caller.

    Raises:
        LogError: it is no log, its key is missing, or the disk refuses.
        LogCorrupt: its end was cut or edited.
    """
    path = folder / DB_FILE
    begun = (folder / HEAD_FILE).exists()
    if begun and not path.exists():
        raise LogCorrupt(1, "cut", f"{path} is missing, but {HEAD_FILE} is here: {_REMEDY}")
    db = None
    try:
        db = connect_writer(folder)
        new = is_empty(db)
        if new and begun:
            raise LogCorrupt(1, "cut", f"{path} is empty, but {HEAD_FILE} is here: {_REMEDY}")
        key = make_keys(folder) if new and not (folder / KEY_FILE).exists() else load_key(folder)
        if new:
            _begin(db, key, clock)
        return _resume(db, folder, key, clock)
    except BaseException as error:
        if db is not None:
            db.close()
        if isinstance(error, sqlite3.Error):
            raise named(error, path) from error
        if isinstance(error, OSError):
            raise LogError(f"{folder}: {error.strerror}: see that it can be written and the disk has room") from error
        raise


def _begin(db: sqlite3.Connection, key: Ed25519PrivateKey, clock: Clock) -> None:
    log_id = str(uuid.uuid4())
    create_tables(db, log_id, head_text(sign(key, log_id, 0, genesis(log_id), clock.now_us())))


def _resume(db: sqlite3.Connection, folder: Path, key: Ed25519PrivateKey, clock: Clock) -> Opened:
    check_format(db, folder / DB_FILE)
    head, found = check_end(db, folder, read_log_id(db), key.public_key().public_bytes_raw())
    assert found.newest is not None, "check_end refuses a file without a head"
    notes = []
    if behind_n := head.position - found.newest.position:
        notes.append(f"{HEAD_FILE} was {behind_n} records behind: the process ended between commit and head; mended")
    if found.bad_slots:
        notes.append(f"one of the two heads in {HEAD_FILE} was torn or edited; mended from the database's own")
    # The slot that is not the newest is written first, so that a whole head is there at any time.
    head_file = HeadFile(folder, head, first_slot=1 - found.slot)
    return Opened(LogWriter(db, head_file, head, key, clock), tuple(notes))


def check_end(db: sqlite3.Connection, folder: Path, log_id: str, public_key: bytes) -> tuple[SignedHead, HeadsFound]:
    """Check the log's last records and its heads.

    Returns:
        The database's own head, and what `log.head` holds.

    Raises:
        LogCorrupt: with the position and the kind of what is wrong.
    """
    own = own_head(db, log_id, public_key)
    found = _heads_beside(folder, public_key, own)
    beside = found.newest
    if beside is None:
        raise LogCorrupt(own.position, "head_signature", f"{folder / HEAD_FILE}: no head has our signature: {_REMEDY}")
    if beside.log_id != log_id:
        raise LogCorrupt(own.position, "head_of_another_log", f"{folder / HEAD_FILE} is of log {beside.log_id!r}")
    last = last_position(db)
    if last < beside.position:
        raise LogCorrupt(
            last + 1, "cut", f"{folder / DB_FILE} ends at {last}, log.head at {beside.position}: {_REMEDY}"
        )
    if last != own.position:
        detail = f"the database ends at {last}, its signed head at {own.position}: {_REMEDY}"
        raise LogCorrupt(min(last, own.position) + 1, "unsigned" if last > own.position else "cut", detail)
    _check_tail(db, log_id, own, beside)
    return own, found


def own_head(db: sqlite3.Connection, log_id: str, public_key: bytes) -> SignedHead:
    """Return the head inside the database.

    Raises:
        LogCorrupt: it is gone, or not one that we signed for this log.
    """
    row = db.execute("SELECT text FROM head").fetchone()
    try:
        head = parse_head(row[0] if row is not None else b"")
    except (CodecError, AttributeError) as error:
        raise LogCorrupt(last_position(db), "head_signature", f"the database's own head is gone: {_REMEDY}") from error
    if head.log_id != log_id or not signature_holds(head, public_key):
        raise LogCorrupt(head.position, "head_signature", f"the database's own head is not ours: {_REMEDY}")
    return head


def last_position(db: sqlite3.Connection) -> int:
    """Return the position of the last record, 0 if there is none."""
    (last,) = db.execute("SELECT ifnull(max(position), 0) FROM events").fetchone()
    return int(last)


def _heads_beside(folder: Path, public_key: bytes, own: SignedHead) -> HeadsFound:
    try:
        return read_heads(folder, public_key)
    except FileNotFoundError as error:
        if own.position == 0:
            return HeadsFound(own, 0, ())  # The first start ended before the file was made.
        raise LogCorrupt(own.position, "head_missing", f"{folder / HEAD_FILE} is missing: {_REMEDY}") from error


def _check_tail(db: sqlite3.Connection, log_id: str, own: SignedHead, beside: SignedHead) -> None:
    start = max(0, min(beside.position, own.position - OPEN_CHECK_N))
    walk = Walk(start, chain_at(db, log_id, start), versions=None)
    # At and after the file's head, what the walk computes must agree with both signatures.
    for head in (beside, own):
        rows = raw_rows(db, walk.position, head.position)
        broken = walk.along(rows)
        if broken is not None:
            raise LogCorrupt(broken.position, "edited", f"the record's {broken.misfit} does not fit: {_REMEDY}")
        if walk.position == head.position and walk.chain != head.chain:
            raise LogCorrupt(head.position, "rewritten", f"the chain is not the one that was signed: {_REMEDY}")


def chain_at(db: sqlite3.Connection, log_id: str, position: int) -> bytes:
    """Return the stored link at `position`, the genesis for 0."""
    if position == 0:
        return genesis(log_id)
    row = db.execute("SELECT chain FROM events WHERE position = ?", (position,)).fetchone()
    return bytes(row[0]) if row is not None else b""
