"""What a worker has given to its producer and the broker has not taken yet; after one failure, nothing follows it.

A producer sends one batch of a partition at a time. When it gives a batch up, because no broker took it in time or for
good, it goes on with the next one: what lies behind would reach the topic, and what failed never would. A future tells
its own failure before the producer has its next turn. So whoever ends the process in that call lets nothing through,
and the next process gives all of it again, in order, from what was saved.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from schemas.errors import ConnectionFault

LOG = logging.getLogger("jidoka.detect")

UNSENT = 71
"""Exit status when no broker took a message."""


def end_process(error: BaseException) -> None:
    """End at once: an orderly end would send what lies behind."""
    LOG.critical("the worker ends: no broker took a message: %r; nothing behind it is sent or saved", error)
    os._exit(UNSENT)


class Outgoing:
    """Messages on their way, of one event loop."""

    def __init__(self, end: Callable[[BaseException], None] = end_process) -> None:
        """Begin with nothing.

        Args:
            end: Called with the first failure, from within the event loop; does not return where nothing may follow.
        """
        self.failure: BaseException | None = None
        """Why nothing counts as acknowledged any more."""
        self._end = end
        self._open_n = 0
        self._settled = asyncio.Event()
        self._settled.set()

    def __len__(self) -> int:
        """Return how many wait for the broker's word."""
        return self._open_n

    def append(self, sent: Awaitable[Any]) -> None:
        """Wait for one more."""
        self._open_n += 1
        self._settled.clear()
        asyncio.ensure_future(sent).add_done_callback(self._done)

    async def acknowledged(self) -> None:
        """Return when the broker has all. A wait that is cut off forgets nothing.

        Raises:
            BaseException: what failed first, now or ever before: it is lost to the topic, and nothing can be saved.
        """
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure

    def _done(self, sent: asyncio.Future[Any]) -> None:
        self._open_n -= 1
        error = ConnectionFault("a message was given up") if sent.cancelled() else sent.exception()
        if error is not None and self.failure is None:
            self.failure = error
            self._settled.set()
            self._end(error)
        if not self._open_n:
            self._settled.set()
