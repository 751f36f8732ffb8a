"""Reads messages from the files of a spool, one after the other, beside whoever appends to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from connectors.eventlog.frames import frame_at
from connectors.kafka.spoolfiles import SpoolFile, Stored, read_message
from schemas.errors import LogCorrupt, LogError

REMEDY: Final = "it is passed over and told as a gap; check the disk (dmesg, smartctl)"
_FRAME_HEAD_BYTES: Final = 8


class SpoolReader:
    """Remembers where it was: the next message is found without a search."""

    def __init__(self, files: Callable[[], Sequence[SpoolFile]]) -> None:
        """Begin anywhere.

        Args:
            files: Returns the files of now, in order.
        """
        self._files = files
        self._cursor: tuple[int, SpoolFile, int] | None = None
        """Position that was read last, its file, and the offset behind it."""
        self._open: tuple[SpoolFile, int] | None = None

    def next_after(self, after: int) -> Stored | None:
        """Return the first message behind a position; None: there is none.

        Raises:
            LogCorrupt: a file was damaged since it was scanned; names file and offset.
            LogError: a file cannot be read.
        """
        files = [file for file in self._files() if file.last > after]
        if not files:
            return None
        file, offset = files[0], 0
        if self._cursor is not None and self._cursor[0] == after and in_spans(*self._cursor[1:]) is not None:
            _, file, offset = self._cursor
        while True:  # More than once only at the first message after a start, or a new connection.
            begin = in_spans(file, offset)
            assert begin is not None, "the file's last message is behind `after`"
            stored, offset = self._read_at(file, begin, after + 1)
            if stored.position > after:
                self._cursor = (stored.position, file, offset)
                return stored

    def _read_at(self, file: SpoolFile, offset: int, wanted: int) -> tuple[Stored, int]:
        """Return the message of the frame at an offset, and the offset behind it."""
        try:
            if self._open is None or self._open[0] is not file:
                self.close()
                self._open = (file, os.open(file.path, os.O_RDONLY))
            handle = self._open[1]
            length = int.from_bytes(os.pread(handle, _FRAME_HEAD_BYTES, offset)[:4], "little")
            data = os.pread(handle, _FRAME_HEAD_BYTES + length, offset)
        except OSError as error:
            raise LogError(f"{file.path}: {error.strerror}: check the disk, then start again") from error
        frame = frame_at(memoryview(data), 0)
        if frame is None:
            detail = f"{file.path} at byte {offset}: it does not verify any more: start again: {REMEDY}"
            raise LogCorrupt(wanted, "spool", detail)
        return read_message(frame), offset + frame.end

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


def in_spans(file: SpoolFile, offset: int) -> int | None:
    """Return the offset, or where the next stretch of whole frames begins; None: nothing follows in this file."""
    return next((max(begin, offset) for begin, end in file.spans if max(begin, offset) < end), None)
