"""One writer a folder: an exclusive lock of the operating system, which ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from schemas.errors import LogError

LOCK_FILE = "log.lock"


class FolderLock:
    """Held from construction until `release`."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            LogError: another process has it.
        """
        self._path = folder / LOCK_FILE
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise LogError(
                f"{self._path}: process {holder} writes this log already: stop it, or use another data folder"
            ) from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next writer in. The file stays: deleting it would let two writers lock two files of one name."""
        os.close(self._handle)
