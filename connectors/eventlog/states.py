"""Where detectors stand, saved so that another process can go on from there; in SQLite, for processes of one machine.

A state is no evidence and in no chain: whoever doubts it computes it again from the kept input. It is compared and set
on its position, so that a worker which lost its cell, and does not know it yet, cannot put the cell back.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar

from connectors.eventlog.files import sync_folder
from connectors.eventlog.tables import BUSY_S
from schemas.errors import Fenced, LogCorrupt, LogError
from schemas.records import SavedState

_Result = TypeVar("_Result")

_TABLE = """CREATE TABLE IF NOT EXISTS states (
    cell TEXT PRIMARY KEY, position INTEGER NOT NULL, "offset" INTEGER NOT NULL, sha256 BLOB NOT NULL,
    data BLOB NOT NULL
) STRICT"""
FORMAT = 1


class StateStore(Protocol):
    """One state a cell, the last."""

    async def load(self, cell: str) -> SavedState | None:
        """Return the cell's state; None: none was ever saved.

        Raises:
            LogCorrupt: it is no longer what was saved.
        """

    async def save(self, cell: str, state: SavedState, *, expected: int) -> None:
        """Replace the cell's state, durably.

        Args:
            cell: Its path.
            state: At `expected` or after it.
            expected: The position that is stored now, 0 if nothing is.

        Raises:
            Fenced: another position is stored: another process has the cell. Nothing was written.
            LogError: it could not be stored.
        """

    async def close(self) -> None:
        """Let go. Again is free."""


class SqliteStates:
    """States in one SQLite file, for several processes of one machine at once."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            LogError: it cannot be written, or is something else.
        """
        self.path = path
        self._lock = threading.Lock()
        self._closed = False
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)  # Another process may make it now.
                sync_folder(path.parent.parent)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise LogError(f"{path}: {error}: name a folder that can be written") from error
        try:
            self._make()
        except sqlite3.Error as error:
            self._db.close()
            raise LogError(f"{path}: {error}: see that it can be written, or name another file") from error
        except BaseException:
            self._db.close()
            raise

    def _make(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(_TABLE)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT):
            raise LogError(f"{self.path}: format {version}, this program reads {FORMAT}: install the one that wrote it")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        self._db.execute("COMMIT")

    async def load(self, cell: str) -> SavedState | None:
        """Return the cell's state; None: none was ever saved.

        Raises:
            LogCorrupt: it is no longer what was saved.
            LogError: the file cannot be read.
        """
        query = 'SELECT position, "offset", data, sha256 FROM states WHERE cell = ?'
        row = await self._in_thread(lambda db: db.execute(query, (cell,)).fetchone())
        return None if row is None else checked(cell, *row)

    async def save(self, cell: str, state: SavedState, *, expected: int) -> None:
        """Replace the cell's state, durably.

        Raises:
            Fenced: another position than `expected` is stored; nothing was written.
            LogError: the disk did not take it, or another process holds the file for too long.
            ValueError: the state is before `expected`.
        """
        check_order(cell, state, expected)
        await self._in_thread(lambda db: self._save(db, cell, state, expected))

    def _save(self, db: sqlite3.Connection, cell: str, state: SavedState, expected: int) -> None:
        digest = sha256(state.data).digest()
        db.execute("BEGIN IMMEDIATE")
        try:
            row = db.execute("SELECT position FROM states WHERE cell = ?", (cell,)).fetchone()
            check_expected(cell, row[0] if row is not None else 0, expected)
            values = (cell, state.position, state.offset, digest, state.data)
            db.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?)", values)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    async def close(self) -> None:
        """Let go of the file. Again is free."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self._db.close()

    async def _in_thread(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await asyncio.to_thread(self._alone, work)

    def _alone(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        with self._lock:
            if self._closed:
                raise LogError(f"{self.path}: it is closed")
            try:
                return work(self._db)
            except sqlite3.Error as error:
                raise LogError(f"{self.path}: {error}: see that it can be written and the disk has room") from error


def checked(cell: str, position: int, offset: int, data: bytes, digest: bytes) -> SavedState:
    """Return a stored state.

    Raises:
        LogCorrupt: its bytes do not have the hash that was stored with them.
    """
    if sha256(data).digest() != digest:
        detail = f"the saved state of cell {cell!r} is damaged: delete it, and the cell is computed from its input anew"
        raise LogCorrupt(0, "state", detail)
    return SavedState(position, offset, bytes(data))


def check_order(cell: str, state: SavedState, expected: int) -> None:
    """Refuse a state that goes back: a mistake of the caller, not of another process.

    Raises:
        ValueError: it is before the one that it replaces.
    """
    if not 0 <= expected <= state.position:
        raise ValueError(f"cell {cell!r}: a state at {state.position} cannot follow one at {expected}")


def check_expected(cell: str, stored: int, expected: int) -> None:
    """Compare what the caller believes with what is stored.

    Raises:
        Fenced: they differ; the message has both.
    """
    if stored != expected:
        raise Fenced(f"cell {cell!r}: expected a state at {expected}, the one that is saved is at {stored}")
