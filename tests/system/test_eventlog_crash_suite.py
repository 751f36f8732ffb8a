"""Both durable stores are killed, and so is the server: nothing acknowledged is lost, half-written or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.eventlog.checking import Verification
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_verify import verify_postgres
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.verify import verify
from schemas.settings import PostgresSettings
from tests.eventlog_support import HOUSE, clock, collect, run, state_fact
from tests.support.killed_writer import CELLS_N, COMMITTED, DONE, FACTS_N, POINTS, SENT
from tests.support.postgres import PostgresServer, make_server

LIFE_S = 60.0


@dataclass
class Durable:
    """A durable store, as its next process finds it."""

    folder: Path
    settings: PostgresSettings | None

    async def open(self) -> Any:
        if self.settings is None:
            return SqliteStore.open(self.folder, clock=clock())
        return await PostgresStore.open(self.settings, self.folder, clock=clock())

    def verify(self) -> Verification:
        return verify(self.folder) if self.settings is None else verify_postgres(self.settings, self.folder)

    def killed_at(self, point: str, crossing: int) -> dict[str, tuple[int, int]]:
        """Let a process write until it kills itself; return the version and input position last said for each cell."""
        command = [sys.executable, "-m", "tests.support.killed_writer", str(self.folder), point, str(crossing)]
        command += [self.settings.model_dump_json()] if self.settings is not None else []
        done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, timeout=LIFE_S, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        said = (line.split() for line in done.stdout.splitlines(keepends=True) if line.endswith("\n"))
        return {cell: (int(version), int(at)) for cell, version, at in said}


@pytest.fixture(params=["sqlite", "postgres"])
def durable(request: Any, tmp_path: Path) -> Durable:
    return Durable(tmp_path / "log", request.getfixturevalue("postgres") if request.param == "postgres" else None)


async def look(durable: Durable, acknowledged: dict[str, tuple[int, int]], epoch: int) -> None:
    store = await durable.open()
    async with store:
        for cell in (f"cell{n}" for n in range(CELLS_N)):
            version, said = acknowledged.get(cell, (0, 0))
            taken = await store.take(cell)
            assert taken.epoch == epoch
            assert version <= taken.version <= version + FACTS_N
            assert taken.positions.get("in", 0) >= said
            assert taken.version == FACTS_N * taken.positions.get("in", 0)
            facts = [r.fact.number for r in await collect(store.read_cell(cell))]
            assert facts == list(range(taken.version))


@pytest.mark.parametrize("point", [*POINTS, COMMITTED, DONE])
def test_a_writer_killed_at_any_point_leaves_whole_appends_and_all_that_were_acknowledged(
    durable: Durable, point: str
) -> None:
    # SQLite's statements are a row each: the twentieth is in the middle of an append.
    acknowledged = durable.killed_at(point, 9 if durable.settings else 20)
    assert acknowledged, "it died before it had done anything"
    assert durable.verify().ok
    run(look(durable, acknowledged, epoch=2))
    assert durable.verify().ok


def test_a_writer_killed_while_the_server_commits_leaves_whole_appends(postgres: Any, tmp_path: Path) -> None:
    durable = Durable(tmp_path / "log", postgres)
    acknowledged = durable.killed_at(SENT, 9)
    assert acknowledged
    run(look(durable, acknowledged, epoch=2))
    assert durable.verify().ok


def test_a_writer_killed_again_and_again_goes_on_each_time(durable: Durable) -> None:
    for life in range(3):
        acknowledged = durable.killed_at("before the commit", 12 + life)
        assert durable.verify().ok
    run(look(durable, acknowledged, epoch=4))


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    """A server of its own, since it is killed."""
    server = make_server()
    yield server
    server.remove()


def backend_killed(server: PostgresServer) -> None:
    """Kill one of the server's processes; the server then ends all others and recovers by itself."""
    with server.admin() as db:
        query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COMMIT%' OR query LIKE 'INSERT%' LIMIT 1"
        while not (row := db.execute(query).fetchone()):
            time.sleep(0.01)
    os.kill(row[0], signal.SIGKILL)


def restarted(how: signal.Signals) -> Callable[[PostgresServer], None]:
    def kill(server: PostgresServer) -> None:
        server.stop(how)
        server.start()

    return kill


@pytest.mark.parametrize(
    "kill",
    [restarted(signal.SIGKILL), restarted(signal.SIGQUIT), backend_killed],
    ids=["kill -9 of the server", "immediate stop", "kill -9 of a backend"],
)
def test_writers_go_on_over_a_killed_server_and_nothing_is_lost_or_doubled(
    mortal: PostgresServer, tmp_path: Path, kill: Callable[[PostgresServer], None]
) -> None:
    settings = mortal.new_database(timeout_s=30.0)
    acknowledged: dict[str, int] = {}
    stop = asyncio.Event()

    async def caller(store: PostgresStore, cell: str) -> None:
        taken = await store.take(cell)
        version = 0
        while not stop.is_set():
            facts = [state_fact(version), state_fact(version + 1)]
            advance = {"in": (version, version + 2)}
            done = await store.append(cell, facts, expected=version, advance=advance, epoch=taken.epoch)
            version = acknowledged[cell] = done.version

    async def grown_by(more: int) -> None:
        goal = sum(acknowledged.values()) + more
        async with asyncio.timeout(LIFE_S):
            while sum(acknowledged.values()) < goal:
                await asyncio.sleep(0.01)

    async def go() -> None:
        a = await PostgresStore.open(settings, tmp_path / "a", clock=clock())
        b = await PostgresStore.open(settings, tmp_path / "b", clock=clock())
        async with a, b:
            callers = [asyncio.create_task(caller(s, f"cell{n}{k}")) for n in range(4) for k, s in enumerate((a, b))]
            for _ in range(2):
                await grown_by(100)
                await asyncio.to_thread(kill, mortal)
            await grown_by(100)
            stop.set()
            await asyncio.gather(*callers)
            for cell, version in acknowledged.items():
                facts = [r.fact.number for r in await collect(a.read_cell(cell))]
                assert facts == list(range(version))
        for name in "ab":
            result = verify_postgres(settings, tmp_path / name)
            assert (result.kind, result.checked_n) == (None, sum(acknowledged.values()))

    run(go())
