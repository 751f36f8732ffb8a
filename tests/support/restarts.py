"""Kills the plant's server and starts it again on the same port while an agent runs, and measures how it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from connectors.clock import SystemClock
from pipelines.act import act_parts
from pipelines.demo.setting import cell_process, configure
from pipelines.runner import running
from schemas import facts
from schemas.facts import AnyFact

SPEED = 1.0
UP_WITHIN_S = 60.0
"""Wall time for the first connection."""
BACK_WITHIN_S = 10.0
"""Wall time from the server's being ready to the agent's having samples again."""
STEADY_S = 1.5
"""Wall time to look whether a second gap follows the first."""


@dataclass(frozen=True, slots=True)
class Back:
    """One outage."""

    back_s: float | None
    """Wall time from ready to back; None: not within `BACK_WITHIN_S`."""
    gaps_n: int
    commands_n: int
    incidents_n: int


async def outages(folder: Path, count: int) -> AsyncIterator[Back]:
    """Take the server away by SIGKILL `count` times; yields what came of each.

    Raises:
        TimeoutError: the agent never connected in the first place.
    """
    origin_us, port, seen = SystemClock().now_us(), _free_port(), list[AnyFact]()
    folder.mkdir(parents=True, exist_ok=True)
    plant = {"speed": SPEED, "seed": 1, "origin_us": origin_us, "port": port}
    async with cell_process(folder / "plant", **plant) as ready:
        configuration = configure(folder, ready, SPEED, origin_us)
        first = ready
        stack = running(configuration, act_parts(configuration))
        runtime = await stack.__aenter__()
        try:
            (service,) = runtime.services.values()
            service.listeners.append(seen.extend)
            up = await _within(UP_WITHIN_S, lambda: _lives(seen) and _alive(seen))
            if up is None:
                raise TimeoutError(f"no connection within {UP_WITHIN_S} s")
            await asyncio.sleep(STEADY_S)
            os.kill(int(str(first["pid"])), signal.SIGKILL)
            for _ in range(count):
                yield await _outage(folder, plant, seen)
                if runtime.failure is not None:
                    raise runtime.failure
        finally:
            await stack.__aexit__(None, None, None)


async def _outage(folder: Path, plant: dict[str, object], seen: list[AnyFact]) -> Back:
    """The server is dead: see that it is noticed, start it, see the agent come back, and kill it again."""
    noticed = await _within(BACK_WITHIN_S, lambda: not _alive(seen))
    since = len(seen) if noticed is None else _last_loss(seen)
    async with cell_process(folder / "plant", **plant) as ready:  # type: ignore[arg-type]
        back_s = await _within(BACK_WITHIN_S, lambda: _alive(seen))
        await asyncio.sleep(STEADY_S)
        os.kill(int(str(ready["pid"])), signal.SIGKILL)
    new = seen[since:]
    return Back(
        back_s=back_s if noticed is not None else None,
        gaps_n=sum(isinstance(f, facts.SourceGap) for f in new),
        commands_n=sum(isinstance(f, facts.CommandIntended) for f in new),
        incidents_n=sum(isinstance(f, facts.IncidentOpened) for f in new),
    )


def _lives(seen: list[AnyFact]) -> bool:
    return any(isinstance(f, facts.LineStateChanged) for f in seen)


def _alive(seen: list[AnyFact]) -> bool:
    """What the log says; the state is ahead of it by one append."""
    return next((f.alive for f in reversed(seen) if isinstance(f, facts.SourceChanged)), True)


def _last_loss(seen: list[AnyFact]) -> int:
    return max(n for n, f in enumerate(seen) if isinstance(f, facts.SourceChanged) and not f.alive)


async def _within(seconds: float, ready: Callable[[], bool]) -> float | None:
    """Wait until `ready`; returns how long it took, None: it did not come."""
    began_s = time.monotonic()
    while not ready():
        if time.monotonic() - began_s > seconds:
            return None
        await asyncio.sleep(0.01)
    return time.monotonic() - began_s


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
