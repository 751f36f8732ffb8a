"""What the spool asks of the disk, in one place: so that a test can let any of it be the last thing that was done."""

from __future__ import annotations

import os
from pathlib import Path

from connectors.eventlog.files import sync_folder, write_all, write_durably


class Disk:
    """The operating system's files."""

    def put(self, path: Path, content: bytes) -> None:
        """Create or replace a small file durably: it is whole or not there."""
        write_durably(path, content)

    def append(self, handle: int, content: bytes) -> None:
        """Write at the end of a file; it outlives the process, and a power cut after the next `sync`."""
        write_all(handle, content)

    def sync(self, handle: int) -> None:
        """Make what was appended durable."""
        os.fdatasync(handle)

    def cut(self, handle: int, size: int) -> None:
        """Shorten a file, durably."""
        os.ftruncate(handle, size)
        os.fsync(handle)

    def remove(self, paths: list[Path]) -> None:
        """Delete files of one folder, durably."""
        for path in paths:
            path.unlink()
        if paths:
            sync_folder(paths[0].parent)
