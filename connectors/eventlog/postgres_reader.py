"""Read a shared log in PostgreSQL, beside its writers or after them. Any number of readers, on any node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from connectors.eventlog.chain import signature_holds
from connectors.eventlog.filling import indexed
from connectors.eventlog.following import CHUNK_ROWS, Growth, in_chunks
from connectors.eventlog.postgres_connect import Database
from connectors.eventlog.postgres_session import Session
from connectors.eventlog.postgres_tables import end_head, read_log
from connectors.eventlog.tables import COLUMNS, recorded
from schemas.errors import LogCorrupt, LogError
from schemas.records import Recorded, SignedHead
from schemas.settings import PostgresSettings

_Result = TypeVar("_Result")


class PostgresReader:
    """A shared log opened for reading. Its own thread does the waiting for the server."""

    def __init__(self, settings: PostgresSettings) -> None:
        """Open the log.

        Args:
            settings: With absolute paths.

        Raises:
            ConnectionFault: no connection; names the setting and the remedy.
            LogError: the database holds no log, or it is not one that we can read.
        """
        self.log_id = ""
        self._session = Session(settings, writes=False, first=self._look)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-reader")
        self._growth = Growth()

    def _look(self, db: Database) -> None:
        self.log_id = read_log(db).log_id

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the cell's facts with `version > after`, in order.

        Raises:
            LogCorrupt: a version is missing or a row cannot be read.
            LogError: the server was away for too long.
        """
        query = f"SELECT {COLUMNS} FROM events WHERE cell = %b AND version > %b ORDER BY version LIMIT {CHUNK_ROWS}"
        return in_chunks(lambda last: self._rows(query, (cell, last)), after, lambda row: row.version, self._growth)

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        """Yield all facts with `position > after`, in order; with `follow` wait for more until the log is closed.

        Raises:
            LogCorrupt: a position is missing or a row cannot be read.
            LogError: the server was away for too long.
        """
        query = f"SELECT {COLUMNS} FROM events WHERE position > %b ORDER BY position LIMIT {CHUNK_ROWS}"
        return in_chunks(
            lambda last: self._rows(query, (last,)), after, lambda row: row.position, self._growth, follow=follow
        )

    async def read_at(self, positions: Sequence[int]) -> list[Recorded]:
        """Return the facts at these positions, in their order; positions that do not exist are left out."""
        query = f"""SELECT {COLUMNS} FROM unnest(%b::bigint[]) WITH ORDINALITY AS wanted(position, place)
            JOIN events USING (position) ORDER BY place"""
        return await self._rows(query, (list(positions),))

    async def positions_of(self, subject_id_prefix: str) -> list[int]:
        """Return where facts about an incident, episode, plan, command or request are, in order.

        Args:
            subject_id_prefix: The first characters of its id, at least one.
        """
        if not subject_id_prefix:
            raise ValueError("an empty prefix would name every fact: use read_all")
        query = "SELECT DISTINCT position FROM subjects WHERE subject >= %b AND subject < %b ORDER BY position"
        first = indexed(subject_id_prefix)
        between = (first, first + "\U0010ffff")
        return await self._in_thread(lambda db: [int(row[0]) for row in db.execute(query, between, binary=True)])

    async def head(self) -> SignedHead:
        """Return the newest signed head, whichever node signed it.

        Raises:
            LogCorrupt: there is none, or its signature does not hold.
        """
        newest = await self._in_thread(end_head)
        if newest is None or newest.log_id != self.log_id or not signature_holds(newest, newest.public_key):
            raise LogCorrupt(
                newest.position if newest else 0, "head_signature", "no signed head: run `jidoka log verify`"
            )
        return newest

    def grown(self) -> None:
        """Wake every follower of this object. May be called in any thread."""
        self._growth.grown()

    async def close(self) -> None:
        """Let go of the log; followers end. Again is free."""
        self._growth.end()
        await asyncio.to_thread(self._thread.shutdown)
        self._session.close()

    async def __aenter__(self) -> PostgresReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _rows(self, query: str, values: tuple[object, ...]) -> list[Recorded]:
        return await self._in_thread(lambda db: [recorded(row) for row in _fetched(db, query, values)])

    async def _in_thread(self, work: Callable[[Database], _Result]) -> _Result:
        if self._growth.ended:
            raise LogError("the log is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._session.do, work)


def _fetched(
    db: Database, query: str, values: tuple[object, ...]
) -> list[tuple[int, str, int, str, int, str, bytes, bytes]]:
    return db.execute(query, values, binary=True).fetchall()
