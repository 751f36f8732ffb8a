"""Where detectors stand, in the shared log's database: for workers on several nodes."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

from connectors.eventlog.filling import check_names
from connectors.eventlog.postgres_connect import Database
from connectors.eventlog.postgres_session import Session
from connectors.eventlog.postgres_tables import make_ready
from connectors.eventlog.states import check_expected, check_order, checked
from schemas.errors import Fenced
from schemas.records import SavedState
from schemas.settings import PostgresSettings

_FIRST = """INSERT INTO states VALUES (%b, %b, %b, %b, %b) ON CONFLICT (cell) DO UPDATE
    SET position = excluded.position, "offset" = excluded."offset", sha256 = excluded.sha256, data = excluded.data
    WHERE states.position = 0"""
_NEXT = 'UPDATE states SET position = %b, "offset" = %b, sha256 = %b, data = %b WHERE cell = %b AND position = %b'


class PostgresStates:
    """Satisfies `connectors.eventlog.states.StateStore`."""

    def __init__(self, settings: PostgresSettings) -> None:
        """Connect, and make the tables if there are none. Blocks for as long.

        Args:
            settings: With absolute paths.

        Raises:
            ConnectionFault: no connection; names the setting and the remedy.
            LogError: the tables cannot be made.
        """
        self._session = Session(settings, writes=True, first=lambda db: make_ready(db, settings))

    async def load(self, cell: str) -> SavedState | None:
        """Return the cell's state; None: none was ever saved.

        Raises:
            LogCorrupt: it is no longer what was saved.
            LogError: the server was away for too long.
        """
        query = 'SELECT position, "offset", data, sha256 FROM states WHERE cell = %b'
        row = await self._in_thread(lambda db: db.execute(query, (cell,), binary=True).fetchone())
        return None if row is None else checked(cell, *row)

    async def save(self, cell: str, state: SavedState, *, expected: int) -> None:
        """Replace the cell's state, durably.

        Raises:
            Fenced: another position than `expected` is stored; nothing was written.
            LogError: the server did not take it, or was away for too long; it may or may not be stored.
            ValueError: the state is before `expected`.
        """
        check_order(cell, state, expected)
        check_names(cell, {})
        await self._in_thread(lambda db: _save(db, cell, state, expected))

    async def close(self) -> None:
        """Let go of the connection. Again is free."""
        await asyncio.to_thread(self._session.close)

    async def _in_thread(self, work: Any) -> Any:
        return await asyncio.to_thread(self._session.do, work)


def _save(db: Database, cell: str, state: SavedState, expected: int) -> None:
    """Compare and set. May be done again after a lost connection: whatever was stored then is recognised."""
    digest = sha256(state.data).digest()
    if expected == 0:
        done = db.execute(_FIRST, (cell, state.position, state.offset, digest, state.data))
    else:
        done = db.execute(_NEXT, (state.position, state.offset, digest, state.data, cell, expected))
    if done.rowcount == 1:
        return
    query = 'SELECT position, "offset", sha256 FROM states WHERE cell = %b'
    row = db.execute(query, (cell,), binary=True).fetchone()
    if row != (state.position, state.offset, digest):
        check_expected(cell, row[0] if row is not None else 0, expected)
        raise Fenced(f"cell {cell!r}: another process saves its state, too")
