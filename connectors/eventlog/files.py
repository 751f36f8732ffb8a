"""Small steps on files whose order decides what survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make names that were created, renamed or deleted in the folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Create or replace a small file so that after a power cut it is whole or not there.

    Raises:
        OSError: the disk did not take it.
    """
    beside = path.with_name(path.name + ".part")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(handle, mode)
        write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(beside, path)
    sync_folder(path.parent)


def write_all(handle: int, data: bytes) -> None:
    """Write every byte at the file's offset.

    Raises:
        OSError: the disk took only a part, or none.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
