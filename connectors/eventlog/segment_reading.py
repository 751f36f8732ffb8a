"""Reads the kept input of one cell, also beside its writer (`segments`). Pure but for the files it reads."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.eventlog.frames import Frame, decode_frame, frame_at, read_file_header, synced_beyond
from schemas.errors import CodecError, LogCorrupt, LogError
from schemas.samples import Kept

_NAME = re.compile(r"segment-(\d{20})\.jk")
_REMEDY = "restore the file from a backup; the facts in the log stay, only a re-run over this stretch is lost"


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a segment file holds."""

    cell: str
    position: int
    """Of its last whole frame; one less than the first if it has none."""
    end: int
    """Offset after that frame."""
    frames: Sequence[Frame]


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


def stretches(folder: Path, *, after: int = 0) -> list[Stretch]:
    """Return what is kept, in order: where old segments were deleted between pinned ones, there are several stretches.

    Args:
        folder: Of one cell.
        after: Files that end before this position are not read; what they hold is left out.

    Raises:
        LogCorrupt: a frame does not verify; names file and offset.
    """
    starts = segment_starts(folder)
    found: list[Stretch] = []
    for start in starts[max(0, bisect_right(starts, after) - 1) :]:
        path = path_of(folder, start)
        last = scan(path, start, path.read_bytes(), may_be_torn=start == starts[-1]).position
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
        path = path_of(folder, start)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise _gone(folder, start, start) from error
        found = scan(path, start, data, may_be_torn=start == starts[-1])
        wanted = found.position + 1
        for frame in found.frames:
            if until is not None and frame.position > until:
                return
            if frame.position > after:
                yield _decoded(frame, path)


def scan(path: Path, first: int, data: bytes, *, may_be_torn: bool) -> Scanned:
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
        return Scanned("", first - 1, 0, [])
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
    return Scanned(cell, position, end, frames)


def _decoded(frame: Frame, path: Path) -> Kept:
    try:
        return decode_frame(frame)
    except CodecError as error:
        detail = f"{path} before byte {frame.end}: {error}: {_REMEDY}"
        raise LogCorrupt(frame.position, "segment", detail) from error


def path_of(folder: Path, first: int) -> Path:
    """Return the file whose first input has this position."""
    return folder / f"segment-{first:020d}.jk"


def _gone(folder: Path, first: int, last: int) -> LogError:
    return LogError(
        f"{folder}: inputs {first} to {last} are not kept any more: raise keep_bytes, or pin what is needed"
    )
