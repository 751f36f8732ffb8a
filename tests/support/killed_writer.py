"""A process that writes a log, says what was acknowledged, and kills itself with -9 at a named point of the store.

Run: `python -m tests.support.killed_writer FOLDER POINT CROSSING [SETTINGS]`; with settings (JSON) into PostgreSQL,
without into SQLite.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.clock import SystemClock
from connectors.eventlog.headfile import HeadFile
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_connect import BoundedConnection
from connectors.eventlog.sqlite import SqliteStore
from schemas.settings import PostgresSettings
from tests.eventlog_support import state_fact

CELLS_N, FACTS_N = 4, 3
POINTS = {
    "before the transaction": "BEGIN",
    "before the facts": "INSERT INTO events",
    "between facts and input positions": "INTO positions",
    "between input positions and versions": "cells",
    "before the head": "head",
    "before the commit": "COMMIT",
}
"""By the statement that follows."""
SENT, COMMITTED, DONE = "while the commit is on its way", "before the head's file", "after the head's file"


class Point:
    """Counts how often a point is crossed, and kills at one of them."""

    def __init__(self, name: str, crossing: int) -> None:
        self.name, self._left = name, crossing

    def cross(self, first: Callable[[], object] = lambda: None) -> None:
        self._left -= 1
        if self._left == 0:
            first()
            os.kill(os.getpid(), signal.SIGKILL)


def kill_at_statement(store: Any, point: Point) -> None:
    """Hook into the connection that writes."""
    wanted = POINTS.get(point.name, "COMMIT")
    if isinstance(store, SqliteStore):
        store._writer._db.set_trace_callback(lambda sql: point.cross() if _is(wanted, sql) else None)
        return
    original = BoundedConnection.execute

    def execute(db: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        matches = db is store._writer._db and _is(wanted, str(query))
        if matches and point.name != SENT:
            point.cross(lambda: _flushed(db))
        result = original(db, query, *args, **kwargs)
        if matches and point.name == SENT:
            point.cross(db.pgconn.pipeline_sync)
        return result

    BoundedConnection.execute = execute  # type: ignore[method-assign]


def _is(wanted: str, sql: str) -> bool:
    words = sql.split("(")[0].split()
    return words[:1] != ["SELECT"] and wanted in " ".join(words)


def _flushed(db: Any) -> None:
    """Let the server do what was queued before."""
    if db._pipeline is not None:
        with db.pipeline():
            pass


def kill_at_head_file(point: Point) -> None:
    """Hook into the file of the head."""
    original = HeadFile.write

    def write(file: HeadFile, head: Any) -> None:
        if point.name == COMMITTED:
            point.cross()
        original(file, head)
        if point.name == DONE:
            point.cross()

    HeadFile.write = write  # type: ignore[method-assign]


async def caller(store: Any, cell: str) -> None:
    taken = await store.take(cell)
    version, said = taken.version, taken.positions.get("in", 0)
    while True:
        facts = [state_fact(version + k) for k in range(FACTS_N)]
        done = await store.append(cell, facts, expected=version, advance={"in": (said, said + 1)}, epoch=taken.epoch)
        version, said = done.version, said + 1
        print(cell, version, said, flush=True)


async def main() -> None:
    folder, name, crossing = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if len(sys.argv) > 4:
        settings = PostgresSettings.model_validate_json(sys.argv[4])
        store: Any = await PostgresStore.open(settings, folder, clock=SystemClock())
    else:
        store = SqliteStore.open(folder, clock=SystemClock())
    point = Point(name, crossing)
    if name in (COMMITTED, DONE):
        kill_at_head_file(point)
    else:
        kill_at_statement(store, point)
    await asyncio.gather(*(caller(store, f"cell{n}") for n in range(CELLS_N)))


if __name__ == "__main__":
    asyncio.run(main())
