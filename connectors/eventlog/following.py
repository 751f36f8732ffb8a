"""Reading on: chunk after chunk in order, and waiting for what is appended later. The same for every durable store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from schemas.errors import LogCorrupt
from schemas.records import Recorded

CHUNK_ROWS = 1000
"""Rows per query: no reader holds a snapshot for longer than one such query."""
FOLLOW_POLL_S = 0.2
"""How often a follower looks for what another process appended; what this one appended wakes it at once."""


class Growth:
    """Wakes followers when facts were appended, and ends them."""

    def __init__(self) -> None:
        self.grown_n = 0
        """How often somebody said so."""
        self.ended = False
        """Whether nothing will be read any more."""
        self._sleepers: set[asyncio.Future[None]] = set()

    def grown(self) -> None:
        """Wake every follower. May be called in any thread."""
        self.grown_n += 1
        for sleeper in list(self._sleepers):
            with contextlib.suppress(RuntimeError):  # Its event loop ended meanwhile.
                sleeper.get_loop().call_soon_threadsafe(_wake, sleeper)

    def end(self) -> None:
        """Let every follower end."""
        self.ended = True
        self.grown()

    async def wait(self) -> None:
        """Return when something was appended here, or it is time to look for what others did."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.add(sleeper)
        try:
            await asyncio.wait([sleeper], timeout=FOLLOW_POLL_S)
        finally:
            self._sleepers.discard(sleeper)
            sleeper.cancel()


async def in_chunks(
    fetch: Callable[[int], Awaitable[list[Recorded]]],
    last: int,
    number: Callable[[Recorded], int],
    growth: Growth,
    *,
    follow: bool = False,
) -> AsyncIterator[Recorded]:
    """Yield what `fetch` finds after `last`, in order.

    Args:
        fetch: Returns the next records after a number, at most `CHUNK_ROWS`.
        last: Begin after this number.
        number: The number of a record: its position, or its version.
        growth: Tells when to look again.
        follow: Wait for more until `growth` ends.

    Raises:
        LogCorrupt: a number is missing.
    """
    while not (follow and growth.ended):
        grown_n = growth.grown_n
        chunk = await fetch(last)
        for record in chunk:
            if number(record) != last + 1:
                detail = f"the record before is {last}, this one is {number(record)}: run `jidoka log verify`"
                raise LogCorrupt(record.position, "deleted", detail)
            last = number(record)
            yield record
        if not chunk:
            if not follow:
                return
            if grown_n == growth.grown_n:
                await growth.wait()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
