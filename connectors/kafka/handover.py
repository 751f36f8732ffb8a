"""What a reading thread hands over to an event loop, in order and bounded by whoever asks `full`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka import TopicPartition

HANDED_MAX: Final = 8
"""What waits for the other side: the messages of one fetch and partition count as one. Then nothing more is fetched."""


@dataclass(frozen=True, slots=True)
class Reads:
    """These partitions are read from here on; none: another process has the cell."""

    places: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Polled:
    """Messages of one partition, in order."""

    records: Sequence[Any]
    """kafka-python's: topic, partition, offset, key, value, headers."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A partition was read as far as it reached at this time."""

    place: TopicPartition
    at: int
    """Agent time, microseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Messages of a partition that cannot be read any more."""

    place: TopicPartition
    reason: str


Handed = Reads | Polled | CaughtUp | Skipped


class Handover:
    """From one thread to one task."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._handed: deque[Handed] = deque()

    def begin(self) -> None:
        """Hand over to the running event loop."""
        self._loop = asyncio.get_running_loop()

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing more should be fetched."""
        return len(self._handed) >= HANDED_MAX

    def put(self, handed: Handed) -> None:
        """Hand over; called by the thread."""
        self._handed.append(handed)
        assert self._loop is not None, "begun"
        with contextlib.suppress(RuntimeError):  # The loop may have ended; then nobody waits.
            self._loop.call_soon_threadsafe(self._news.set)

    async def news(self, within_s: float) -> None:
        """Return when something was handed over, or after this wall time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), within_s)

    def take(self) -> Handed | None:
        """Return what was handed over next; None: nothing is there."""
        if not self._handed:
            self._news.clear()
        # Between the two something may have come.
        return self._handed.popleft() if self._handed else None
