"""Group sync: a thread that makes what was appended to a spool durable, soon, and many messages at a time."""

from __future__ import annotations

import threading
from typing import Final

from connectors.kafka.spool import Spool
from schemas.errors import LogError

SYNC_WITHIN_S: Final = 0.02
"""Wall time that a message waits for others before all are synced; after a tick nothing waits."""
_LOOK_S: Final = 0.5
"""Wall time between two looks at whether to stop, while nothing is appended."""


class Syncer(threading.Thread):
    """Runs until `stop`, or until the disk fails."""

    def __init__(self, spool: Spool) -> None:
        super().__init__(name="spool-sync", daemon=True)
        self._spool = spool
        self._urged, self._stopping = threading.Event(), threading.Event()
        self.failure: LogError | None = None
        """Why it ended by itself."""

    def urge(self) -> None:
        """Sync at once."""
        self._urged.set()

    def stop(self) -> None:
        """Sync what is left, and return when the thread has ended."""
        self._stopping.set()
        self._urged.set()
        self._spool.unsynced.set()
        self.join()

    def run(self) -> None:
        """Sync for ever."""
        try:
            while not self._stopping.is_set():
                if not self._spool.unsynced.wait(_LOOK_S):
                    continue
                self._urged.wait(SYNC_WITHIN_S)
                self._urged.clear()
                self._spool.unsynced.clear()
                self._spool.sync()
            self._spool.sync()
        except LogError as error:
            self.failure = error
