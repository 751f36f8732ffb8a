"""Crash points: wrappers around everything durable and everything that acts, which end the agent at the n-th crossing.

A point lies before and after each append, sync, rotation and blob, each take of the cell, and each call to the robot;
after a call means that it was done and we never heard. Once struck, every further crossing strikes too: whatever else
of the agent is still running can no longer leave a trace. That is what `kill -9` does, without a process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from agent.ports import Blobs, EventStore, Robot
from schemas.commands import Command, Reading
from schemas.facts import AnyFact, type_name
from schemas.outcomes import Outcome
from schemas.records import Advance, Appended, Recorded, SignedHead, Taken
from schemas.samples import Kept


class Crash(BaseException):
    """The process is gone. Not an Exception: nothing may catch it and go on."""


class Points:
    """Counts crossings; strikes at one of them."""

    def __init__(self, strike_at: int | None = None, strike: Callable[[str], None] | None = None) -> None:
        """Begin to count.

        Args:
            strike_at: Index of the crossing, from 0; None: only count.
            strike: Called instead of raising, e.g. to kill the process.
        """
        self.labels: list[str] = []
        self.dead = False
        self._strike_at, self._strike = strike_at, strike

    def cross(self, label: str) -> None:
        """Pass a point, or die at it."""
        if self.dead:
            raise Crash(f"dead since {self.labels[-1]}")
        self.labels.append(label)
        if len(self.labels) - 1 == self._strike_at:
            self.dead = True
            if self._strike is not None:
                self._strike(label)
            raise Crash(label)


class CrashingStore:
    """An event store with points."""

    def __init__(self, store: EventStore, points: Points) -> None:
        self._store, self._points = store, points

    async def append(
        self, cell: str, facts: Sequence[AnyFact], *, expected: int, advance: Advance, epoch: int
    ) -> Appended:
        label = f"store.append({' '.join(type_name(fact) for fact in facts)})"
        self._points.cross(f"before {label}")
        appended = await self._store.append(cell, facts, expected=expected, advance=advance, epoch=epoch)
        self._points.cross(f"after {label}")
        return appended

    async def take(self, cell: str) -> Taken:
        self._points.cross("before store.take")
        taken = await self._store.take(cell)
        self._points.cross("after store.take")
        return taken

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        return self._store.read_cell(cell, after=after)

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        return self._store.read_all(after=after, follow=follow)

    async def head(self) -> SignedHead:
        return await self._store.head()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class CrashingKeeper:
    """Kept input with points."""

    def __init__(self, keeper: Any, points: Points) -> None:
        self._keeper, self._points = keeper, points

    @property
    def position(self) -> int:
        return int(self._keeper.position)

    def append(self, kept: Kept) -> bool:
        label = f"keeper.append({type(kept.input).__name__})"
        self._points.cross(f"before {label}")
        due = bool(self._keeper.append(kept))
        self._points.cross(f"after {label}")
        return due

    def sync(self) -> None:
        self._points.cross("before keeper.sync")
        self._keeper.sync()
        self._points.cross("after keeper.sync")

    def rotate(self) -> None:
        self._points.cross("before keeper.rotate")
        self._keeper.rotate()
        self._points.cross("after keeper.rotate")

    def read(self, *, after: int) -> Iterator[Kept]:
        return iter(self._keeper.read(after=after))

    def close(self) -> None:
        self._keeper.close()


class CrashingBlobs:
    """Blobs with points."""

    def __init__(self, blobs: Blobs, points: Points) -> None:
        self._blobs, self._points = blobs, points

    def put(self, data: bytes) -> str:
        self._points.cross("before blobs.put")
        name = self._blobs.put(data)
        self._points.cross("after blobs.put")
        return name

    def get(self, sha256: str) -> bytes:
        return self._blobs.get(sha256)


class CrashingRobot:
    """A robot with points. After `execute` it has acted, and nobody was told."""

    def __init__(self, robot: Robot, points: Points) -> None:
        self._robot, self._points = robot, points

    async def snapshot(self, tags: Sequence[str]) -> Mapping[str, Reading]:
        self._points.cross("before robot.snapshot")
        readings = await self._robot.snapshot(tags)
        self._points.cross("after robot.snapshot")
        return readings

    async def execute(
        self, command: Command, *, command_sha256: str, epoch: int, ttl_s: float, timeout_s: float
    ) -> Outcome:
        label = f"robot.execute({command.action} {command.origin})"
        self._points.cross(f"before {label}")
        outcome = await self._robot.execute(
            command, command_sha256=command_sha256, epoch=epoch, ttl_s=ttl_s, timeout_s=timeout_s
        )
        self._points.cross(f"after {label}")
        return outcome

    async def query(self, command_id: str, *, epoch: int, timeout_s: float) -> Outcome:
        self._points.cross("before robot.query")
        outcome = await self._robot.query(command_id, epoch=epoch, timeout_s=timeout_s)
        self._points.cross("after robot.query")
        return outcome

    def __getattr__(self, name: str) -> Any:
        # What a connected robot has beside the port: run, beat, connected, fault.
        return getattr(self._robot, name)
