"""Agent time: wall time, plant time at N times its speed, or time that only a simulation moves."""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Protocol


class Clock(Protocol):
    """What connectors need of agent time; those below and `agent.ports.Clock` have it."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""


class SystemClock:
    """Wall time, UTC."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    async def sleep_until(self, at_us: int) -> None:
        """Return when `now_us() >= at_us`."""
        while (rest_us := at_us - self.now_us()) > 0:
            await asyncio.sleep(rest_us / 1e6)


class ScaledClock:
    """Plant time that runs `speed` times as fast as the wall, both equal at `origin_us`."""

    def __init__(self, origin_us: int, speed: float) -> None:
        """Tie plant time to the wall.

        Args:
            origin_us: Microseconds since 1970 UTC at which both clocks agree.
            speed: Above 0.
        """
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.origin_us, self.speed = origin_us, speed

    def now_us(self) -> int:
        """Microseconds since 1970 UTC, plant time."""
        return self.origin_us + int((time.time_ns() // 1000 - self.origin_us) * self.speed)

    async def sleep_until(self, at_us: int) -> None:
        """Return when `now_us() >= at_us`."""
        while (rest_us := at_us - self.now_us()) > 0:
            await asyncio.sleep(rest_us / 1e6 / self.speed)


class VirtualClock:
    """Time that stands still until `advance`."""

    def __init__(self, now_us: int = 0) -> None:
        self._now_us = now_us
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_us(self) -> int:
        """Microseconds since 1970 UTC, as set by `advance`."""
        return self._now_us

    async def sleep_until(self, at_us: int) -> None:
        """Return when `now_us() >= at_us`."""
        if at_us <= self._now_us:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (at_us, self._count, future))
        await future

    def next_at(self) -> int | None:
        """When the next sleeper wants to wake; None: nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance(self, to_us: int) -> None:
        """Move time forward to `to_us` and wake whoever is due. Never moves back."""
        self._now_us = max(self._now_us, to_us)
        while self._sleepers and self._sleepers[0][0] <= self._now_us:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
