"""The event store in PostgreSQL: one log that several nodes write, with one chain and a signed head from each.

The same bytes, the same chain and the same answers as in SQLite. The parts: `postgres_writing` (transactions and lost
connections), `group` (who waits for which), `postgres_opening` (what must hold before), `postgres_reader`. What a node
keeps in its own folder (its key and its last head) is what the database cannot take back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

from connectors.clock import Clock
from connectors.eventlog.fence import check_advance
from connectors.eventlog.files import sync_folder
from connectors.eventlog.filling import check_names
from connectors.eventlog.group import GroupCommit
from connectors.eventlog.lock import FolderLock
from connectors.eventlog.postgres_opening import Opened, open_writer
from connectors.eventlog.postgres_reader import PostgresReader
from connectors.eventlog.tables import DB_FILE
from connectors.eventlog.work import Append, Take, Work, prepare
from schemas.errors import LogError
from schemas.facts import AnyFact
from schemas.records import Advance, Appended, Recorded, SignedHead, Taken
from schemas.settings import PostgresSettings


class PostgresStore:
    """A shared log opened for writing by this node. Satisfies `agent.ports.EventStore`."""

    def __init__(self, settings: PostgresSettings, folder: Path, lock: FolderLock, opened: Opened) -> None:
        """Put the parts together; use `open`."""
        self.folder = folder
        self.log_id = opened.writer.head.log_id
        self.notes = opened.notes
        """What opening found and mended, for people; empty after an orderly end."""
        self._lock, self._writer = lock, opened.writer
        self._reader = PostgresReader(settings)
        self._writer.grown = self._reader.grown
        self._group = GroupCommit[Work](self._writer.commit, between=self._writer.between)
        self._closed = False

    @classmethod
    async def open(cls, settings: PostgresSettings, folder: Path, *, clock: Clock) -> PostgresStore:
        """Open the log, or begin one: the tables are made if there are none.

        Args:
            settings: With absolute paths.
            folder: This node's own: holds `log.key`, `log.pub`, `log.head`; made if it is missing.
            clock: Gives `recorded_at`.

        Raises:
            ConnectionFault: no connection; names the setting and the remedy.
            LogError: another process writes with this folder, it has a log of its own, it is no log, its key is
                missing, or the disk refuses.
            LogCorrupt: its end was cut or edited.
        """
        return await asyncio.to_thread(cls._open, settings, folder, clock)

    @classmethod
    def _open(cls, settings: PostgresSettings, folder: Path, clock: Clock) -> PostgresStore:
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
            lock = FolderLock(folder)
        except OSError as error:
            raise LogError(f"{folder}: {error.strerror}: name a folder that can be written") from error
        try:
            if (folder / DB_FILE).exists():  # Its key and head are of that log, and it stays as it is.
                raise LogError(
                    f"{folder} holds a log of its own ({DB_FILE}), and no log is moved into PostgreSQL: keep it, move "
                    "the folder away whole, and start again; the shared log begins without what that one says"
                )
            opened = open_writer(settings, folder, clock)
            try:
                return cls(settings, folder, lock, opened)
            except BaseException:
                opened.writer.close()
                raise
        except BaseException:
            lock.release()
            raise

    async def append(
        self, cell: str, facts: Sequence[AnyFact], *, expected: int, advance: Advance, epoch: int
    ) -> Appended:
        """Store all facts in one durable transaction, or none. With no facts, only the input positions move.

        Raises:
            Fenced: `expected`, a `from` position or `epoch` does not match what is stored.
            LogHalted: the server refused, or nobody knows whether it was committed; the store accepts nothing more.
            LogError: the server was away for too long and nothing was written, too many appends wait, or the store is
                closed.
            ValueError: an input would move back, or a name has a NUL.
        """
        check_advance(cell, advance)
        check_names(cell, advance)
        work = Append(cell, [prepare(fact) for fact in facts], expected, dict(advance), epoch)
        return cast(Appended, await self._group.submit(work))

    async def take(self, cell: str) -> Taken:
        """Raise the cell's epoch durably; whoever wrote with the one before, on any node, is fenced from now on.

        Raises:
            LogHalted: the server refused, or nobody knows whether it was committed; the store accepts nothing more.
            LogError: the server was away for too long and nothing was written, or the store is closed.
            ValueError: the name has a NUL.
        """
        check_names(cell, {})
        return cast(Taken, await self._group.submit(Take(cell)))

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the cell's facts with `version > after`, in order."""
        return self._reader.read_cell(cell, after=after)

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        """Yield all facts with `position > after`, in order; with `follow` wait for more until the store is closed."""
        return self._reader.read_all(after=after, follow=follow)

    async def read_at(self, positions: Sequence[int]) -> list[Recorded]:
        """Return the facts at these positions, in their order; positions that do not exist are left out."""
        return await self._reader.read_at(positions)

    async def positions_of(self, subject_id_prefix: str) -> list[int]:
        """Return where facts about an incident, episode, plan, command or request are, in order."""
        return await self._reader.positions_of(subject_id_prefix)

    async def head(self) -> SignedHead:
        """Return the signed end of the log, whichever node signed it."""
        return await self._reader.head()

    async def close(self) -> None:
        """Finish what waits, and let the next process of this node in. Again is free."""
        if self._closed:
            return
        self._closed = True
        await self._group.end()
        await self._reader.close()
        await asyncio.to_thread(self._writer.close)
        self._lock.release()

    async def __aenter__(self) -> PostgresStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
