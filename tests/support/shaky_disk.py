"""A disk that can end a process at any of its steps, and that forgets in a power cut what was not synced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from connectors.kafka.disk import Disk
from tests.support.crashing import Crash


class ShakyDisk(Disk):
    """Real files. `strike_in` steps from now the process is gone: before, within or after that step."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.strike_in: int | None = None
        self.steps_n = 0
        self._durable: dict[Path, int] = {}
        self._removed: dict[Path, bytes] = {}

    def put(self, path: Path, content: bytes) -> None:
        self._cross()
        super().put(path, content)
        self._durable[path] = len(content)
        self._cross()

    def append(self, handle: int, content: bytes) -> None:
        if self._struck():
            super().append(handle, content[: int(self._rng.integers(len(content) + 1))])
            raise Crash("within an append")
        super().append(handle, content)
        self._cross()

    def sync(self, handle: int) -> None:
        self._cross()
        super().sync(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        self._durable[path] = path.stat().st_size
        self._cross()

    def cut(self, handle: int, size: int) -> None:
        self._cross()
        super().cut(handle, size)
        self._durable[Path(os.readlink(f"/proc/self/fd/{handle}"))] = size
        self._cross()

    def remove(self, paths: list[Path]) -> None:
        for path in paths:
            self._removed[path] = path.read_bytes()
            super().remove([path])
            # Without a sync of the folder the name may be back after a power cut.
            self._cross()
        for path in paths:
            del self._removed[path]

    def lose_power(self, folder: Path) -> None:
        """Leave of every file what was synced, and any part of the rest, in any order of pages."""
        for path, content in self._removed.items():
            if self._rng.random() < 0.5:
                path.write_bytes(content)
        for path in folder.glob("spool-*.jk"):
            content = bytearray(path.read_bytes())
            durable = min(self._durable.get(path, len(content)), len(content))
            end = int(self._rng.integers(durable, len(content) + 1))
            content = content[:end]
            if end > durable and self._rng.random() < 0.5:
                begin = int(self._rng.integers(durable, end))
                content[begin : begin + 64] = bytes(len(content[begin : begin + 64]))
            path.write_bytes(content)
            self._durable[path] = end
        self.calm()

    def calm(self) -> None:
        """Forget the strike, and what was removed."""
        self.strike_in = None
        self._removed.clear()

    def _cross(self) -> None:
        if self._struck():
            raise Crash("at a step of the disk")

    def _struck(self) -> bool:
        self.steps_n += 1
        if self.strike_in is None:
            return False
        self.strike_in -= 1
        return self.strike_in <= 0
