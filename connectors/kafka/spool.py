"""The collector's spool: messages that no broker has acknowledged yet, on disk, bounded.

*Taken* means synced here; only what is synced may be sent, so that no crash lets a number be used twice. One thread
appends, one syncs, one reads and acknowledges. What brokers have is noted in a file of its own, and files that are
acknowledged as a whole are deleted. Sending again what was acknowledged but not noted is harmless: receivers drop it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from connectors.eventlog.files import sync_folder
from connectors.eventlog.lock import FolderLock
from connectors.kafka.codec import Message
from connectors.kafka.disk import Disk
from connectors.kafka.spoolfiles import (
    HEADER,
    NOTE,
    Head,
    Note,
    SpoolFile,
    Stored,
    head_of,
    message_frame,
    note_bytes,
    spool_path,
)
from connectors.kafka.spoolopening import find
from connectors.kafka.spoolreader import REMEDY, SpoolReader
from schemas.errors import LogError, LogHalted

LOG = logging.getLogger("jidoka.spool")

FILE_BYTES_MAX: Final = 8_000_000
FILES_MIN: Final = 16
"""So many files at least, however small the spool: room comes back file by file."""
SMALL_SHARE: Final = 0.05
"""Of the spool, kept for what is small and matters: line events, ticks and gaps while samples find no room."""
SMALL_BYTES_MAX: Final = 1_000
"""What key, headers and framing of a message take, generously."""


class Spool:
    """The one user of a folder of messages."""

    def __init__(self, folder: Path, *, bytes_max: int, first_epoch: int, disk: Disk | None = None) -> None:
        """Open what is left of the last time, or begin anew.

        Args:
            folder: Of this process alone; made if it is missing.
            bytes_max: What all files together may take.
            first_epoch: For a new folder: higher than any that its sources ever had, e.g. wall seconds since 1970.
            disk: How files are written.

        Raises:
            LogError: another process has the folder, the note does not verify, or the disk refuses.
            LogCorrupt: a message verifies and is none that this program knows.
        """
        self.folder, self.bytes_max = folder, bytes_max
        self._disk = disk or Disk()
        self._file_bytes_max = min(FILE_BYTES_MAX, bytes_max // FILES_MIN)
        self.unsynced, self.news = threading.Event(), threading.Event()
        """Set by an append, and by a sync that made something ready to be sent."""
        self._files: list[SpoolFile] = []
        self._state, self._syncing = threading.Lock(), threading.Lock()
        self._handle, self._halted, self._closed = -1, "", False
        self._patches: dict[int, Message] = {}
        self._reader = SpoolReader(self._present)
        self.damage: tuple[str, ...] = ()
        """What could not be read at opening: file, offset and remedy; told as gaps, never silently left out."""
        self.torn_bytes = 0
        """What a crash had left behind the last whole message, never synced and never sent."""
        self.heads: dict[str, Head] = {}
        """By source: the last message appended."""
        self._acknowledged_heads: dict[str, Head] = {}
        self.position = self.synced = self.acknowledged = 0
        self.epoch = 0
        """What new messages bear; 0 until the folder is open."""
        try:
            self._make_folder()
            self._lock = FolderLock(folder)
        except OSError as error:
            raise LogError(f"{folder}: {error.strerror}: name a folder that can be written") from error
        try:
            self.epoch = self._open(first_epoch)
            self.note()
        except OSError as error:
            self.close()
            raise LogError(f"{folder}: {error.strerror}: free or mend the disk, then start again") from error
        except BaseException:
            self.close()
            raise

    @property
    def bytes_n(self) -> int:
        """What all files take."""
        return sum(file.size for file in self._files)

    @property
    def empty(self) -> bool:
        """Whether a broker has everything."""
        return self.acknowledged >= self.position

    def fits(self, messages: Iterable[Message], *, small: bool) -> bool:
        """Tell whether there is room for all of these.

        Args:
            messages: In the order in which they would be appended.
            small: Whether they may use what is kept for small messages.
        """
        wanted = sum(len(m.value) + SMALL_BYTES_MAX for m in messages) + len(HEADER)
        return self.bytes_n + wanted <= (self.bytes_max if small else self.bytes_max * (1 - SMALL_SHARE))

    def append(self, message: Message) -> None:
        """Write one message at the end; it may be sent after the next `sync`.

        Args:
            message: Made by `encode_message`, and it fits; whoever appends asks `fits` first.

        Raises:
            LogHalted: the disk took it in part or not at all; nothing of it is kept.
        """
        self._check()
        source, head = head_of(message)
        stored = Stored(self.position + 1, message)
        frame = message_frame(stored, at=head.at, synced=self.synced)
        with self._state:
            self._write(stored.position, frame)
            self.position, self.heads[source] = stored.position, head
        self.unsynced.set()

    def sync(self) -> None:
        """Make everything appended durable and ready to be sent. Free if nothing was.

        Raises:
            LogHalted: the disk failed.
        """
        self._check()
        with self._syncing:
            position = self.position
            if position == self.synced or self._handle < 0:
                return
            try:
                self._disk.sync(self._handle)
            except OSError as error:
                raise self._halt("sync", error) from error
            self.synced = position
        self.news.set()

    def read(self, *, after: int, bytes_max: int) -> list[Stored]:
        """Return synced messages in order, from the first behind a position on.

        Args:
            after: The first has a higher position: the next one, or one behind a hole.
            bytes_max: Of values; at least one message is returned if there is one.

        Raises:
            LogCorrupt: a file was damaged since it was opened. Open it again: then the damage is passed over.
            LogError: a file cannot be read.
        """
        found: list[Stored] = []
        room = bytes_max
        while room > 0 and after < self.synced and (stored := self._reader.next_after(after)) is not None:
            # What was lost before it has its gaps in its place.
            for position in range(after + 1, stored.position) if self._patches else ():
                if (patch := self._patches.get(position)) is not None:
                    found.append(Stored(position, patch))
            found.append(stored)
            room -= len(stored.message.value)
            after = stored.position
        return found

    def acknowledge(self, messages: Iterable[Stored]) -> None:
        """Take to memory that a broker has these, which are the next ones in order; `note` makes it durable."""
        for stored in messages:
            assert stored.position > self.acknowledged, "acknowledged in order, each once"
            source, head = head_of(stored.message)
            self._acknowledged_heads[source] = head
            self.acknowledged = stored.position

    def note(self) -> None:
        """Write down what was acknowledged, and delete the files that nobody needs any more.

        Raises:
            LogHalted: the disk failed.
        """
        self._check()
        note = Note(self.acknowledged, self.epoch, self._acknowledged_heads)
        try:
            self._disk.put(self.folder / NOTE, note_bytes(note))
            with self._state:
                done = [f for f in self._files if f.last <= self.acknowledged and not self._is_open(f)]
                self._files = [f for f in self._files if f not in done]
            # The note comes first: it has the heads of what is deleted.
            self._disk.remove([file.path for file in done])
        except OSError as error:
            raise self._halt("note", error) from error

    def close(self) -> None:
        """Sync and note what the disk still takes, and let the next process in. Again is free."""
        if self._closed:
            return
        if not self._halted and self.epoch:
            with contextlib.suppress(LogHalted):
                self.sync()
                self.note()
        self._closed = True
        self._reader.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._lock.release()

    # ---- opening

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            sync_folder(self.folder.parent)

    def _open(self, first_epoch: int) -> int:
        """Take over what is left of the last time; returns the epoch of this start."""
        found = find(self.folder)
        self.acknowledged, self.position, self.heads = found.acknowledged, found.position, found.heads
        self._acknowledged_heads = dict(found.note.heads) if found.note is not None else {}
        self._patches, self.torn_bytes = found.patches, found.torn_bytes
        self._files = [file for file in found.files if file.last > self.acknowledged]
        self._disk.remove([file.path for file in found.files if file.last <= self.acknowledged])
        self.damage = tuple(f"{each}: {REMEDY}" for each in found.damage)
        for each in self.damage:
            LOG.error("%s", each)
        self._go_on()
        self.synced = self.position
        if not self.empty:
            self.news.set()
        return found.next_epoch(first_epoch)

    def _go_on(self) -> None:
        """Open the newest file behind its last whole frame, if it is as it should be; else the next one begins."""
        if not self._files:
            return
        newest = self._files[-1]
        handle = os.open(newest.path, os.O_WRONLY | os.O_APPEND)
        try:
            self._disk.cut(handle, newest.size)
        except BaseException:
            os.close(handle)
            raise
        if newest.last == self.position and newest.spans == [(len(HEADER), newest.size)]:
            self._handle = handle
            return
        os.close(handle)
        if newest.last < newest.first:
            newest.path.rename(newest.path.with_suffix(".damaged"))
            self._files.pop()

    # ---- writing

    def _write(self, position: int, frame: bytes) -> None:
        try:
            if self._handle < 0 or self._files[-1].size >= self._file_bytes_max:
                self._rotate(position)
            file = self._files[-1]
            self._disk.append(self._handle, frame)
        except OSError as error:
            with contextlib.suppress(OSError, IndexError):
                os.ftruncate(self._handle, self._files[-1].size)
            raise self._halt("append", error) from error
        file.size += len(frame)
        file.last, file.spans[-1] = position, (file.spans[-1][0], file.size)

    def _rotate(self, first: int) -> None:
        """Begin a file; the one before is durable then."""
        with self._syncing:
            if self._handle >= 0:
                self._disk.sync(self._handle)
                self.synced = self.position
                os.close(self._handle)
                self._handle = -1
            path = spool_path(self.folder, first)
            self._disk.put(path, HEADER)
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        size = len(HEADER)
        self._files.append(SpoolFile(path, first, first - 1, size, [(size, size)]))

    def _present(self) -> list[SpoolFile]:
        with self._state:
            return list(self._files)

    def _is_open(self, file: SpoolFile) -> bool:
        return self._handle >= 0 and file is self._files[-1]

    def _check(self) -> None:
        if self._closed:
            raise LogError(f"{self.folder}: the spool is closed")
        if self._halted:
            raise LogHalted(self._halted)

    def _halt(self, during: str, error: OSError) -> LogHalted:
        self._halted = f"{self.folder}: {during} failed: {error.strerror}: free or mend the disk, then start again"
        self.unsynced.set()
        self.news.set()
        return LogHalted(self._halted)
