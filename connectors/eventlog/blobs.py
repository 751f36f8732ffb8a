"""Bytes by their SHA-256: configuration files, calibrations, snapshots. In files, or in memory for simulated runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from hashlib import sha256
from pathlib import Path

from connectors.eventlog.files import sync_folder
from schemas.errors import LogCorrupt, LogError

_HEX_DIGITS = frozenset("0123456789abcdef")


class FileBlobs:
    """One file a blob, `ab/cdef…` by its hash. Written beside, synced, then renamed: never half there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes) -> str:
        """Store and return 64 hex digits. Storing again is free.

        Raises:
            LogError: the disk did not take it; nothing was stored.
        """
        name = sha256(data).hexdigest()
        path = self._path(name)
        if path.exists():
            return name
        try:
            self._write(path, data)
        except OSError as error:
            raise LogError(
                f"{path}: cannot store {len(data)} bytes: {error.strerror}: free or mend the disk"
            ) from error
        return name

    def get(self, sha256: str) -> bytes:
        """Return the bytes.

        Raises:
            KeyError: not here.
            LogCorrupt: they no longer have this hash.
        """
        if len(sha256) != 64 or not _HEX_DIGITS.issuperset(sha256):
            raise KeyError(sha256)
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise KeyError(sha256) from None
        _check(data, sha256, str(path))
        return data

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name[2:]

    def _write(self, path: Path, data: bytes) -> None:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder)
            sync_folder(self.folder.parent)
        handle, beside = tempfile.mkstemp(prefix=".part-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        sync_folder(path.parent)


class MemoryBlobs:
    """Blobs that end with the process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        """Store and return 64 hex digits."""
        name = sha256(data).hexdigest()
        self._blobs[name] = bytes(data)
        return name

    def get(self, sha256: str) -> bytes:
        """Return the bytes.

        Raises:
            KeyError: not here.
            LogCorrupt: they no longer have this hash.
        """
        data = self._blobs[sha256]
        _check(data, sha256, "memory")
        return data


def _check(data: bytes, name: str, where: str) -> None:
    found = sha256(data).hexdigest()
    if found != name:
        raise LogCorrupt(0, "blob", f"{where}: {len(data)} bytes hash to {found}: restore the file from a backup")
