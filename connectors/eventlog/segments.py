"""The kept input of one cell, in files: what replay feeds to the detectors again.

`segment-<first position, 20 digits>.jk`, each a header and frames (`frames`). An input is written before it is
processed, and synced before a fact that follows from it is appended. The oldest files go beyond `keep_bytes`; those
that an incident has pinned have a bound of their own, so that they starve nothing else and do not fill the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from connectors.eventlog.files import sync_folder, write_all, write_durably
from connectors.eventlog.frames import (
    Frame,
    decode_frame,
    encode_frame,
    file_header,
    frame_at,
    read_file_header,
    synced_beyond,
)
from schemas.errors import CodecError, LogCorrupt, LogError, LogHalted
from schemas.samples import Kept

Pins = Callable[[], Iterable[tuple[int, int]]]
"""Ranges of positions, first and last, that somebody still needs."""

KEEP_PINNED_BYTES = 20_000_000_000
"""Pinned input of one cell; beyond it the oldest goes too. An incident that nobody closes pins all that follows."""

_log = logging.getLogger(__name__)
_NAME = re.compile(r"segment-(\d{20})\.jk")
_REMEDY = "restore the file from a backup; the facts in the log stay, only a re-run over this stretch is lost"


@dataclass(frozen=True, slots=True)
class _Found:
    """What a segment file holds."""

    cell: str
    position: int
    """Of its last whole frame; one less than the first if it has none."""
    end: int
    """Offset after that frame."""
    frames: Sequence[Frame]


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
        path = _path(self.folder, starts[-1])
        data = path.read_bytes()
        header = file_header(self.cell)
        if len(data) < len(header) and header.startswith(data):
            write_durably(path, header)
            self.torn_bytes = len(data)
            data = header
        found = _scan(path, starts[-1], data, may_be_torn=True)
        if found.cell != self.cell:
            raise LogError(f"{path}: keeps the input of cell {found.cell!r}, not of {self.cell!r}: name another folder")
        self.position, self._first, self._size = found.position, starts[-1], found.end
        self.torn_bytes += len(data) - found.end
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._handle, found.end)
        os.fsync(self._handle)

    def _begin(self, position: int) -> None:
        path, header = _path(self.folder, position), file_header(self.cell)
        write_durably(path, header)
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._first, self._size = position, len(header)

    def _delete_old(self) -> None:
        starts, pins = segment_starts(self.folder), list(self._pins())
        pinned = [a for a, b in pairwise(starts) if any(first < b and a <= last for first, last in pins)]
        self._trim([start for start in starts if start not in set(pinned)], self._keep_bytes)
        for start in self._trim([*pinned, starts[-1]], self._keep_pinned_bytes):
            _log.warning("%s: pinned, and deleted beyond %d bytes", _path(self.folder, start), self._keep_pinned_bytes)
        sync_folder(self.folder)

    def _trim(self, starts: Sequence[int], keep_bytes: int) -> list[int]:
        """Delete the oldest of these files, never the last, until the rest fits; returns what went."""
        sizes = [_path(self.folder, start).stat().st_size for start in starts]
        gone = []
        for n, start in enumerate(starts[:-1]):
            if sum(sizes[n:]) <= keep_bytes:
                break
            _path(self.folder, start).unlink()
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


def segment_starts(folder: Path) -> list[int]:
    """Return the first position of every segment file, in order; empty if the folder is missing."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for name in os.listdir(folder) if (match := _NAME.fullmatch(name)))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Kept input without a hole: positions `first` to `last`."""

    first: int
    last: int


def stretches(folder: Path) -> list[Stretch]:
    """Return what is kept, in order: where old segments were deleted between pinned ones, there are several stretches.

    Raises:
        LogCorrupt: a frame does not verify; names file and offset.
    """
    starts = segment_starts(folder)
    found: list[Stretch] = []
    for start in starts:
        path = _path(folder, start)
        last = _scan(path, start, path.read_bytes(), may_be_torn=start == starts[-1]).position
        if found and found[-1].last + 1 == start:
            found[-1] = Stretch(found[-1].first, last)
        else:
            found.append(Stretch(start, last))
    return found


def read_kept(folder: Path, *, after: int = 0, until: int | None = None) -> Iterator[Kept]:
    """Yield kept inputs in order, also beside a running writer.

    Args:
        folder: Of one cell.
        after: The first input has `position == after + 1`; 0: begin with the oldest that is kept.
        until: Position of the last input; None: all there are.

    Raises:
        LogError: inputs in this range are not kept any more.
        LogCorrupt: a frame does not verify; names file and offset.
    """
    starts = segment_starts(folder)
    if starts and 0 < after < starts[0] - 1:
        raise _gone(folder, after + 1, starts[0] - 1)
    index = max(0, bisect_right(starts, after + 1) - 1)
    wanted = None
    for start in starts[index:]:
        if until is not None and start > until:
            return
        if wanted is not None and start != wanted:
            raise _gone(folder, wanted, start - 1)
        path = _path(folder, start)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise _gone(folder, start, start) from error
        found = _scan(path, start, data, may_be_torn=start == starts[-1])
        wanted = found.position + 1
        for frame in found.frames:
            if until is not None and frame.position > until:
                return
            if frame.position > after:
                yield _decoded(frame, path)


def _scan(path: Path, first: int, data: bytes, *, may_be_torn: bool) -> _Found:
    """Find the whole frames of a file.

    Raises:
        LogCorrupt: what follows them is no torn tail of something that was never synced.
    """
    try:
        header = read_file_header(data)
        if header is None and not may_be_torn:
            raise CodecError("the file ends within its header")
    except CodecError as error:
        raise LogCorrupt(first, "segment", f"{path} at byte 0: {error}: {_REMEDY}") from error
    if header is None:
        return _Found("", first - 1, 0, [])
    cell, end = header
    view, position, frames = memoryview(data), first - 1, []
    while (frame := frame_at(view, end)) is not None:
        if frame.position != position + 1:
            detail = f"{path} at byte {end}: input {frame.position} follows {position}: {_REMEDY}"
            raise LogCorrupt(position + 1, "segment", detail)
        frames.append(frame)
        position, end = frame.position, frame.end
    if end < len(data) and not (may_be_torn and not synced_beyond(view, end, position)):
        detail = f"{path} at byte {end}: the checksum of input {position + 1} does not hold: {_REMEDY}"
        raise LogCorrupt(position + 1, "segment", detail)
    return _Found(cell, position, end, frames)


def _decoded(frame: Frame, path: Path) -> Kept:
    try:
        return decode_frame(frame)
    except CodecError as error:
        detail = f"{path} before byte {frame.end}: {error}: {_REMEDY}"
        raise LogCorrupt(frame.position, "segment", detail) from error


def _path(folder: Path, first: int) -> Path:
    return folder / f"segment-{first:020d}.jk"


def _gone(folder: Path, first: int, last: int) -> LogError:
    return LogError(
        f"{folder}: inputs {first} to {last} are not kept any more: raise keep_bytes, or pin what is needed"
    )
