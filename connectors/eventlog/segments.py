"""The kept input of one cell, in files: what replay feeds to the detectors again.

`segment-<first position, 20 digits>.jk`, each a header and frames (`frames`). An input is written before it is
processed, and synced before a fact that follows from it is appended. The oldest files go beyond `keep_bytes`; those
that an incident has pinned have a bound of their own, so that they starve nothing else and do not fill the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from connectors.eventlog.files import sync_folder, write_all, write_durably
from connectors.eventlog.frames import encode_frame, file_header
from connectors.eventlog.segment_reading import path_of, scan, segment_starts
from schemas.errors import LogError, LogHalted
from schemas.samples import Kept

Pins = Callable[[], Iterable[tuple[int, int]]]
"""Ranges of positions, first and last, that somebody still needs."""

KEEP_PINNED_BYTES = 20_000_000_000
"""Pinned input of one cell; beyond it the oldest goes too. An incident that nobody closes pins all that follows."""

_log = logging.getLogger(__name__)


class SegmentWriter:
    """The one writer of a folder of segments."""

    def __init__(
        self,
        folder: Path,
        *,
        cell: str,
        bytes_max: int,
        keep_bytes: int,
        keep_pinned_bytes: int = KEEP_PINNED_BYTES,
        pins: Pins = lambda: (),
    ) -> None:
        """Open the last segment behind its last whole frame, or begin the first.

        Args:
            folder: Of this cell alone; made if it is missing.
            cell: Stands in every file.
            bytes_max: Size at which `append` says that a rotation is due.
            keep_bytes: What the files that nobody has pinned may take; the present one is never deleted.
            keep_pinned_bytes: What the pinned ones may take.
            pins: Asked at each rotation.

        Raises:
            LogError: the files are of another cell, or the disk refuses.
            LogCorrupt: a frame that was synced does not verify.
        """
        self.folder, self.cell = folder, cell
        self._bytes_max, self._keep_bytes, self._keep_pinned_bytes = bytes_max, keep_bytes, keep_pinned_bytes
        self._pins = pins
        self.position = 0
        """Of the last input kept, 0 if there is none."""
        self.torn_bytes = 0
        """What a crash had left behind the last whole frame, and opening cut off."""
        self._synced = 0
        self._first, self._size = 1, 0
        self._handle = -1
        self._halted, self._closed = "", False
        try:
            self._open_last()
        except OSError as error:
            self.close()
            raise LogError(f"{folder}: {error.strerror}: name a folder that can be written") from error
        except BaseException:
            self.close()
            raise
        self._synced = self.position

    def append(self, kept: Kept) -> bool:
        """Keep one input; it survives the process at once, a power cut after the next `sync`.

        Returns:
            Whether the file has reached `bytes_max` and `rotate` is due.

        Raises:
            ValueError: its position is not the next one.
            LogHalted: the disk took it in part or not at all; nothing of it is kept.
        """
        self._check()
        if self._handle < 0 and kept.position >= 1:
            self._begin(kept.position)
        elif kept.position != self.position + 1:
            raise ValueError(f"input {kept.position} cannot follow {self.position} in {self.folder}")
        frame = encode_frame(kept, synced=self._synced)
        try:
            write_all(self._handle, frame)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._size)
            raise self._halt("append", error) from error
        self.position = kept.position
        self._size += len(frame)
        return self._size >= self._bytes_max

    def sync(self) -> None:
        """Make everything appended durable. Free if nothing was.

        Raises:
            LogHalted: the disk failed.
        """
        self._check()
        if self._synced == self.position or self._handle < 0:
            return
        try:
            os.fdatasync(self._handle)
        except OSError as error:
            raise self._halt("sync", error) from error
        self._synced = self.position

    def rotate(self) -> None:
        """Go on in a new file, and delete the oldest ones beyond `keep_bytes`, of pinned ones `keep_pinned_bytes`.

        Raises:
            LogHalted: the disk failed.
        """
        self.sync()
        if self._handle < 0 or self.position < self._first:
            return
        try:
            os.close(self._handle)
            self._handle = -1
            self._begin(self.position + 1)
            self._delete_old()
        except OSError as error:
            raise self._halt("rotate", error) from error

    def skip(self, position: int) -> None:
        """Go on behind `position` in a new file: what lies between will never be kept. Free if nothing does.

        Raises:
            LogHalted: the disk failed.
        """
        self.sync()
        if position <= self.position:
            return
        try:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1
                if self.position < self._first:  # It holds nothing.
                    path_of(self.folder, self._first).unlink()
            self._begin(position + 1)
        except OSError as error:
            raise self._halt("skip", error) from error
        self.position = self._synced = position

    def close(self) -> None:
        """Sync what the disk still takes, and close the file. Again is free."""
        self._closed = True
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(self._handle)
            os.close(self._handle)
            self._handle = -1

    def _open_last(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            sync_folder(self.folder.parent)
        starts = segment_starts(self.folder)
        if not starts:
            return
        path = path_of(self.folder, starts[-1])
        data = path.read_bytes()
        header = file_header(self.cell)
        if len(data) < len(header) and header.startswith(data):
            write_durably(path, header)
            self.torn_bytes = len(data)
            data = header
        found = scan(path, starts[-1], data, may_be_torn=True)
        if found.cell != self.cell:
            raise LogError(f"{path}: keeps the input of cell {found.cell!r}, not of {self.cell!r}: name another folder")
        self.position, self._first, self._size = found.position, starts[-1], found.end
        self.torn_bytes += len(data) - found.end
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._handle, found.end)
        os.fsync(self._handle)

    def _begin(self, position: int) -> None:
        path, header = path_of(self.folder, position), file_header(self.cell)
        write_durably(path, header)
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._first, self._size = position, len(header)

    def _delete_old(self) -> None:
        starts, pins = segment_starts(self.folder), list(self._pins())
        pinned = [a for a, b in pairwise(starts) if any(first < b and a <= last for first, last in pins)]
        self._trim([start for start in starts if start not in set(pinned)], self._keep_bytes)
        for start in self._trim([*pinned, starts[-1]], self._keep_pinned_bytes):
            _log.warning(
                "%s: pinned, and deleted beyond %d bytes", path_of(self.folder, start), self._keep_pinned_bytes
            )
        sync_folder(self.folder)

    def _trim(self, starts: Sequence[int], keep_bytes: int) -> list[int]:
        """Delete the oldest of these files, never the last, until the rest fits; returns what went."""
        sizes = [path_of(self.folder, start).stat().st_size for start in starts]
        gone = []
        for n, start in enumerate(starts[:-1]):
            if sum(sizes[n:]) <= keep_bytes:
                break
            path_of(self.folder, start).unlink()
            gone.append(start)
        return gone

    def _check(self) -> None:
        if self._closed:
            raise LogError(f"{self.folder}: the segments are closed")
        if self._halted:
            raise LogHalted(self._halted)

    def _halt(self, during: str, error: OSError) -> LogHalted:
        self._halted = f"{self.folder}: {during} failed: {error.strerror}: free or mend the disk, then start again"
        return LogHalted(self._halted)
