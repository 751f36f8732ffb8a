"""Read a SQLite log, beside the running writer or after it. Any number of readers, in any process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from connectors.eventlog.following import CHUNK_ROWS, Growth, in_chunks
from connectors.eventlog.headfile import HEAD_FILE, read_heads
from connectors.eventlog.keys import load_public_key
from connectors.eventlog.tables import (
    COLUMNS,
    DB_FILE,
    Row,
    check_format,
    connect_reader,
    named,
    read_log_id,
    recorded,
)
from schemas.errors import LogCorrupt, LogError
from schemas.records import Recorded, SignedHead

_Result = TypeVar("_Result")


class SqliteReader:
    """A log opened for reading. Its own thread does the waiting for the disk."""

    def __init__(self, folder: Path) -> None:
        """Open the log in `folder`.

        Raises:
            LogError: no log is here, or it is not one that we can read.
            LogCorrupt: the database is damaged.
        """
        self.folder = folder
        self._db = connect_reader(folder)
        try:
            check_format(self._db, folder)
            self.log_id = read_log_id(self._db)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise named(error, self.folder / DB_FILE) from error
        except BaseException:
            self._db.close()
            raise
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-reader")
        self._growth = Growth()

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the cell's facts with `version > after`, in order.

        Raises:
            LogCorrupt: a version is missing or a row cannot be read.
        """
        query = f"SELECT {COLUMNS} FROM events WHERE cell = ? AND version > ? ORDER BY version LIMIT {CHUNK_ROWS}"
        return in_chunks(lambda last: self._chunk(query, (cell, last)), after, lambda row: row.version, self._growth)

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        """Yield all facts with `position > after`, in order; with `follow` wait for more until the log is closed.

        Raises:
            LogCorrupt: a position is missing or a row cannot be read.
        """
        query = f"SELECT {COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT {CHUNK_ROWS}"
        return in_chunks(
            lambda last: self._chunk(query, (last,)), after, lambda row: row.position, self._growth, follow=follow
        )

    async def read_at(self, positions: Sequence[int]) -> list[Recorded]:
        """Return the facts at these positions, in their order; positions that do not exist are left out."""
        query = f"SELECT {COLUMNS} FROM events WHERE position = ?"
        return await self._in_thread(lambda: [recorded(row) for p in positions for row in self._rows(query, (p,))])

    async def positions_of(self, subject_id_prefix: str) -> list[int]:
        """Return where facts about an incident, episode, plan, command or request are, in order.

        Args:
            subject_id_prefix: The first characters of its id, at least one.
        """
        query = "SELECT DISTINCT position FROM subjects WHERE subject >= ? AND subject < ? ORDER BY position"
        between = (subject_id_prefix, subject_id_prefix + "\U0010ffff")
        if not subject_id_prefix:
            raise ValueError("an empty prefix would name every fact: use read_all")
        return await self._in_thread(lambda: [int(row[0]) for row in self._db.execute(query, between)])

    async def head(self) -> SignedHead:
        """Return the signed end of the log as its writer left it in `log.head`.

        Raises:
            LogCorrupt: it is missing, or no head in it carries the right signature.
        """
        return await self._in_thread(lambda: newest_head(self.folder))

    def grown(self) -> None:
        """Wake every follower of this object. May be called in any thread."""
        self._growth.grown()

    async def close(self) -> None:
        """Let go of the log; followers end."""
        self._growth.end()
        await asyncio.to_thread(self._thread.shutdown)
        self._db.close()

    async def __aenter__(self) -> SqliteReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _chunk(self, query: str, values: tuple[object, ...]) -> list[Recorded]:
        return await self._in_thread(lambda: [recorded(row) for row in self._rows(query, values)])

    def _rows(self, query: str, values: tuple[object, ...]) -> list[Row]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise named(error, self.folder / DB_FILE) from error

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        if self._growth.ended:
            raise LogError(f"{self.folder}: the log is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def open_readonly(folder: Path) -> SqliteReader:
    """Open a log for reading, while the agent runs or after.

    Raises:
        LogError: no log is here, or it is not one that we can read.
        LogCorrupt: the database is damaged.
    """
    return SqliteReader(folder)


def newest_head(folder: Path) -> SignedHead:
    """Return the newest head of `log.head` that the key in `log.pub` signed.

    Raises:
        LogCorrupt: the file is missing, or there is no such head in it.
        LogError: `log.pub` is missing or no key.
    """
    try:
        newest = read_heads(folder, load_public_key(folder)).newest
    except FileNotFoundError as error:
        raise LogCorrupt(0, "head_missing", f"{folder / HEAD_FILE} is missing: restore it from a backup") from error
    if newest is None:
        detail = f"{folder / HEAD_FILE}: no head in it carries the signature of log.pub: restore it from a backup"
        raise LogCorrupt(0, "head_signature", detail)
    return newest
