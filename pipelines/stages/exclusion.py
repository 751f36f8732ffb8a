"""A lock that nobody gets any more once something under it was cut short.

Who takes a message changes several things one after the other. If that is broken off in between, by an error or by the
end of the task, whoever waits for the lock would find a part of it, and save that as if it were whole.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Exclusion:
    """Used as `async with`; of one event loop."""

    def __init__(self) -> None:
        self.broken: BaseException | None = None
        """What cut somebody short; everybody after gets it, too."""
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        if self.broken is not None:
            self._lock.release()
            raise self.broken

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.broken = self.broken or error
        self._lock.release()
