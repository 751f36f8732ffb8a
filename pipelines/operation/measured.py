"""An event store that counts what goes through it: facts by type, how long appends took, how many were refused."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from agent.ports import EventStore
from schemas.facts import AnyFact, type_name
from schemas.records import Advance, Appended, Recorded, SignedHead, Taken

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histogram; a sync of a disk takes from the first to the middle ones."""


class Measured:
    """A store as another one is, and figures."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.facts_n: Counter[tuple[str, str]] = Counter()
        """By cell and type."""
        self.failed_n = 0
        """Appends that were refused or failed."""
        self.failure = ""
        """What the last append said, if it failed; empty: it did not."""
        self.appends_n = [0] * (len(BUCKETS_S) + 1)
        """By bucket, not cumulated; the last is for all that took longer."""
        self.append_s = 0.0
        """All of them together, wall time."""

    async def append(
        self, cell: str, facts: Sequence[AnyFact], *, expected: int, advance: Advance, epoch: int
    ) -> Appended:
        """Store as the store does, and count.

        Raises:
            Fenced: as the store.
            LogHalted: as the store.
        """
        began_s = time.perf_counter()
        try:
            appended = await self._store.append(cell, facts, expected=expected, advance=advance, epoch=epoch)
        except Exception as error:
            self.failed_n += 1
            self.failure = f"{type(error).__name__}: {error}"
            raise
        took_s = time.perf_counter() - began_s
        self.failure = ""
        self.append_s += took_s
        self.appends_n[bisect_left(BUCKETS_S, took_s)] += 1
        self.facts_n.update((cell, type_name(fact)) for fact in facts)
        return appended

    async def take(self, cell: str) -> Taken:
        """Raise the cell's epoch."""
        return await self._store.take(cell)

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the cell's facts."""
        return self._store.read_cell(cell, after=after)

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        """Yield all facts."""
        return self._store.read_all(after=after, follow=follow)

    async def head(self) -> SignedHead:
        """Return the signed end of the log."""
        return await self._store.head()
