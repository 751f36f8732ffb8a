"""The decision service of the Kafka runtime that strikes itself once, at a named point.

    python -m tests.support.kafka_faults.killed_decide CONFIG --at LABEL --count N --signal KILL --marker FILE

It is the product's own command; what is durable, what acts and what it gives upstream is wrapped with points. Of all
processes with the same marker the first one at the point strikes, once; what its robot then answered is noted beside.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from connectors.robots import ROBOTS
from pipelines import act, deciding
from pipelines.cli import main as jidoka
from pipelines.stages import deciding as stage
from pipelines.stages.upstream import Upstream
from tests.support.crashing import CrashingBlobs, CrashingRobot, CrashingStore, Points


class MarkedPoint(Points):
    """Strikes with a signal at the `count`-th crossing whose label begins with `at`, unless the marker is there."""

    def __init__(self, at: str, count: int, what: signal.Signals, marker: Path) -> None:
        super().__init__()
        self._at, self._left, self._what, self._marker = at, count, what, marker
        self.struck = False

    def cross(self, label: str) -> None:
        if not label.startswith(self._at) or self.struck:
            return
        self._left -= 1
        if self._left:
            return
        try:
            os.close(os.open(self._marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        self.struck = True
        os.kill(os.getpid(), self._what)


class NotedRobot(CrashingRobot):
    """Notes what came of the command with which its process stood still."""

    def __init__(self, robot: Any, points: MarkedPoint, note: Path) -> None:
        super().__init__(robot, points)
        self._mine, self._note = points, note

    async def execute(self, command: Any, **rest: Any) -> Any:
        before = self._mine.struck
        outcome = await super().execute(command, **rest)
        if self._mine.struck and not before:
            self._note.write_bytes(msgspec.json.encode({"epoch": rest["epoch"], "outcome": repr(outcome)}))
        return outcome


def wrap(points: MarkedPoint, note: Path) -> None:
    """Put points into everything that the service will make in this process."""
    open_store, open_blobs, robots = deciding.open_store, deciding.open_blobs, dict(ROBOTS)

    @asynccontextmanager
    async def stores(configuration: Any) -> AsyncIterator[tuple[Any, str]]:
        async with open_store(configuration) as (store, log_id):
            yield CrashingStore(store, points), log_id

    @asynccontextmanager
    async def blobs(configuration: Any) -> AsyncIterator[Any]:
        async with open_blobs(configuration) as made:
            yield CrashingBlobs(made, points)

    class Published(Upstream):
        async def publish(self, service: Any, item: Any) -> None:
            label = f"upstream.publish({type(item).__name__})"
            points.cross(f"before {label}")
            await super().publish(service, item)
            points.cross(f"after {label}")

    def wrapped(make: Any) -> Any:
        return lambda *parts: NotedRobot(make(*parts), points, note)

    deciding.open_store, deciding.open_blobs = stores, blobs
    stage.Upstream = Published  # type: ignore[misc]
    act.ROBOTS = {kind: wrapped(make) for kind, make in robots.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--at", required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--signal", default="KILL")
    parser.add_argument("--marker", type=Path, required=True)
    options = parser.parse_args()
    what = signal.Signals[f"SIG{options.signal}"]
    wrap(MarkedPoint(options.at, options.count, what, options.marker), options.marker.with_suffix(".json"))
    sys.argv = ["jidoka", "decide", "--config", str(options.config)]
    jidoka()


if __name__ == "__main__":
    main()
