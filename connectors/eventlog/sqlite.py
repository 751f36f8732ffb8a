"""The event store in one SQLite file: the embedded default.

An append returns when its facts, and the head that signs them, are on the disk. After a failed commit nothing more is
accepted until the log is opened again, since nobody knows what a disk holds that failed to sync. The parts: `writing`
(transactions), `group` (who waits for which), `opening` (what must hold before), `reader`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

from connectors.clock import Clock
from connectors.eventlog.fence import check_advance
from connectors.eventlog.files import sync_folder
from connectors.eventlog.group import GroupCommit
from connectors.eventlog.lock import FolderLock
from connectors.eventlog.opening import Opened, open_writer
from connectors.eventlog.reader import SqliteReader
from connectors.eventlog.work import Append, Take, Work, prepare
from schemas.errors import LogError
from schemas.facts import AnyFact
from schemas.records import Advance, Appended, Recorded, SignedHead, Taken


class SqliteStore:
    """A log opened for writing. Satisfies `agent.ports.EventStore`."""

    def __init__(self, folder: Path, lock: FolderLock, opened: Opened) -> None:
        """Put the parts together; use `open`."""
        self.folder = folder
        self.log_id = opened.writer.head.log_id
        self.notes = opened.notes
        """What opening found and mended, for people; empty after an orderly end."""
        self._lock, self._writer = lock, opened.writer
        self._reader = SqliteReader(folder)
        self._writer.grown = self._reader.grown
        self._group = GroupCommit[Work](self._writer.commit, between=self._writer.between)
        self._closed = False

    @classmethod
    def open(cls, folder: Path, *, clock: Clock) -> SqliteStore:
        """Open the log in `folder`, or begin one there.

        Args:
            folder: Holds `log.sqlite`, `log.head`, `log.key`, `log.pub`; made if it is missing.
            clock: Gives `recorded_at`.

        Raises:
            LogError: another process writes it, it is no log, its key is missing, or the disk refuses.
            LogCorrupt: its end was cut or edited.
        """
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
            lock = FolderLock(folder)
        except OSError as error:
            raise LogError(f"{folder}: {error.strerror}: name a folder that can be written") from error
        try:
            opened = open_writer(folder, clock)
            try:
                return cls(folder, lock, opened)
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
            LogHalted: the disk failed; the store accepts nothing more.
            LogError: too many appends wait, or the store is closed.
            ValueError: an input would move back.
        """
        check_advance(cell, advance)
        work = Append(cell, [prepare(fact) for fact in facts], expected, dict(advance), epoch)
        return cast(Appended, await self._group.submit(work))

    async def take(self, cell: str) -> Taken:
        """Raise the cell's epoch durably; whoever wrote with the one before is fenced from now on.

        Raises:
            LogHalted: the disk failed; the store accepts nothing more.
        """
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
        """Return the signed end of the log."""
        return self._writer.head

    async def close(self) -> None:
        """Finish what waits, move the WAL into the database, and let the next writer in. Again is free."""
        if self._closed:
            return
        self._closed = True
        await self._group.end()
        # Readers first: the last connection to close takes the WAL away, and only a writer can.
        await self._reader.close()
        await asyncio.to_thread(self._writer.close)
        self._lock.release()

    async def __aenter__(self) -> SqliteStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
