"""Rates and latencies of the event stores, SQLite and PostgreSQL, with the disk's own sync beside them, as JSON.

Run: `python -m benchmarks.eventlog [--folder DIR]`. Bounded to less than a minute. Rounds of the contenders alternate,
so that a busy moment of the disk meets all of them. A PostgreSQL server is started for it where one is installed, and
if the package `eventsourcing` can be imported its SQLite recorder runs in the same rounds; otherwise the result says
that they did not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from connectors.clock import SystemClock
from connectors.eventlog.batches import decode_batch, encode_batch
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_verify import verify_postgres
from connectors.eventlog.segment_reading import read_kept
from connectors.eventlog.segments import SegmentWriter
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.verify import verify
from schemas.evidence import Evidence, TagEvidence
from schemas.facts import AnomalyDetected, encode
from schemas.samples import Kept, SampleBatch
from tests.support.postgres import PostgresServer, binaries

ROUNDS = 5
LONE_APPENDS_N = 150
CALLER_APPENDS_N = 640
BULK_FACTS_N, BULK_APPENDS_N = 100, 500
SHARED_BULK_APPENDS_N = 100
BATCHES_N = 3_000
DEADLINE_S = 50.0
"""Rounds that would begin later are left out, and the result says how many ran."""


def fact(number: int) -> AnomalyDetected:
    """A fact of usual size, some 1.1 kB."""
    tags = tuple(
        TagEvidence(f"gripper_force_{k}_n", "gripper", 38.25 + number, 40.5, -4.25 * k, "low") for k in range(8)
    )
    evidence = Evidence(number, tags, {"grip_force_n": 40.0, "cycle_time_s": 4.0}, "EXECUTE")
    return AnomalyDetected(
        at=number, episode_id=str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))), detector="limit",
        tag="gripper_force_0_n", asset="gripper", direction="down", severity="high", onset_at=number,
        detail="below its limit for two rows", evidence=evidence,
    )  # fmt: skip


def summary(latencies_s: list[float], took_s: float, n: int) -> dict[str, float]:
    """Rate and percentiles of one measurement."""
    cuts = statistics.quantiles(latencies_s, n=100)
    return {"per_s": round(n / took_s), "p50_ms": round(cuts[49] * 1e3, 3), "p99_ms": round(cuts[98] * 1e3, 3)}


def raw_disk(folder: Path) -> dict[str, float]:
    """Append 4 kB and fdatasync: what the disk itself takes."""
    handle = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    latencies, data, begun = [], b"x" * 4096, time.perf_counter()
    for _ in range(LONE_APPENDS_N):
        start = time.perf_counter()
        os.write(handle, data)
        os.fdatasync(handle)
        latencies.append(time.perf_counter() - start)
    took_s = time.perf_counter() - begun
    os.close(handle)
    return summary(latencies, took_s, LONE_APPENDS_N)


async def callers(store: SqliteStore | PostgresStore, callers_n: int, appends_n: int, name: str) -> dict[str, float]:
    """Let `callers_n` cells append one fact at a time, each waiting for its own durability."""
    latencies: list[float] = []

    async def caller(cell: str) -> None:
        taken = await store.take(cell)
        for number in range(appends_n // callers_n):
            start = time.perf_counter()
            await store.append(
                cell, [fact(number)], expected=number, advance={"in": (number, number + 1)}, epoch=taken.epoch
            )
            latencies.append(time.perf_counter() - start)

    begun = time.perf_counter()
    await asyncio.gather(*(caller(f"{name}-{callers_n}-{k}") for k in range(callers_n)))
    return summary(latencies, time.perf_counter() - begun, len(latencies))


def peer_callers(recorder: Any, stored_event: Any, callers_n: int, appends_n: int) -> dict[str, float]:
    """Do the same with the peer, a thread a caller, as its users do."""
    latencies: list[float] = []
    payload = encode(fact(1))

    def caller() -> None:
        stream = uuid.uuid4()
        for number in range(appends_n // callers_n):
            start = time.perf_counter()
            recorder.insert_events([stored_event(stream, number, "anomaly.detected/1", payload)])
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=caller) for _ in range(callers_n)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summary(latencies, time.perf_counter() - begun, len(latencies))


def peer(folder: Path) -> tuple[Any, Any] | str:
    """Return the peer's recorder and event class, or why there is none."""
    try:
        from eventsourcing.persistence import StoredEvent
        from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
    except ImportError:
        return "peer not installed: pip install -r benchmarks/requirements-peers.txt into an environment of its own"
    recorder = SQLiteApplicationRecorder(SQLiteDatastore(str(folder / "peer.db"), lock_timeout=60, pool_timeout=60))
    recorder.create_table()
    return recorder, StoredEvent


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds, and the best rate."""
    result = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    return result | {"per_s_best": max(r["per_s"] for r in rounds), "rounds": len(rounds)}


@asynccontextmanager
async def shared_log(folder: Path, server: PostgresServer | None) -> AsyncIterator[PostgresStore | None]:
    """Open a new log in the server, if there is one."""
    if server is None:
        yield None
        return
    store = await PostgresStore.open(server.new_database(), folder / f"node-{uuid.uuid4()}", clock=SystemClock())
    async with store:
        yield store


async def appends(folder: Path, server: PostgresServer | None, deadline: float) -> dict[str, Any]:
    """Measure all contenders in alternating rounds."""
    rival = peer(folder)
    found: dict[str, list[dict[str, float]]] = {}
    local = SqliteStore.open(folder / "appends", clock=SystemClock())
    async with local as store, shared_log(folder, server) as shared:
        for number in range(ROUNDS):
            if time.monotonic() > deadline:
                break
            found.setdefault("raw_4kb_fdatasync", []).append(raw_disk(folder))
            for callers_n, appends_n in ((1, LONE_APPENDS_N), (16, CALLER_APPENDS_N), (64, CALLER_APPENDS_N)):
                own = await callers(store, callers_n, appends_n, f"round{number}")
                found.setdefault(f"append_{callers_n}_callers", []).append(own)
                if shared is not None:
                    own = await callers(shared, callers_n, appends_n, f"round{number}")
                    found.setdefault(f"postgres_append_{callers_n}_callers", []).append(own)
                if not isinstance(rival, str):
                    theirs = await asyncio.to_thread(
                        peer_callers, *rival, callers_n, min(appends_n, LONE_APPENDS_N * 2)
                    )
                    found.setdefault(f"peer_{callers_n}_callers", []).append(theirs)
    result: dict[str, Any] = {name: medians(rounds) for name, rounds in found.items()}
    return result | {"peer": rival if isinstance(rival, str) else "eventsourcing, SQLite recorder"}


async def shared_bulk(folder: Path, server: PostgresServer | None) -> dict[str, Any]:
    """Measure the same for the shared log, with fewer facts."""
    if server is None:
        return {"postgres": "not installed: install the package postgresql"}
    facts = [fact(number) for number in range(BULK_FACTS_N)]
    n = BULK_FACTS_N * SHARED_BULK_APPENDS_N
    result: dict[str, Any] = {"postgres": server.version()}
    settings = server.new_database()
    async with await PostgresStore.open(settings, folder / "shared-bulk", clock=SystemClock()) as store:
        taken = await store.take("cell")
        async with timed(result, "postgres_append_100_facts_at_a_time", n):
            for number in range(SHARED_BULK_APPENDS_N):
                await store.append("cell", facts, expected=number * BULK_FACTS_N, advance={}, epoch=taken.epoch)
        async with timed(result, "postgres_read_all", n):
            async for _ in store.read_all():
                pass
    async with timed(result, "postgres_verify", n):
        assert verify_postgres(settings, folder / "shared-bulk").ok
    return result


async def bulk(folder: Path) -> dict[str, Any]:
    """Measure reading, verifying, and appending a hundred facts at a time."""
    facts = [fact(number) for number in range(BULK_FACTS_N)]
    result: dict[str, Any] = {}
    async with SqliteStore.open(folder / "bulk", clock=SystemClock()) as store:
        taken = await store.take("cell")
        async with timed(result, "append_100_facts_at_a_time", BULK_FACTS_N * BULK_APPENDS_N):
            for number in range(BULK_APPENDS_N):
                await store.append("cell", facts, expected=number * BULK_FACTS_N, advance={}, epoch=taken.epoch)
        async with timed(result, "read_all", BULK_FACTS_N * BULK_APPENDS_N):
            async for _ in store.read_all():
                pass
        async with timed(result, "read_cell_and_decode", BULK_FACTS_N * BULK_APPENDS_N):
            async for record in store.read_cell("cell"):
                assert record.fact is not None
    async with timed(result, "verify", BULK_FACTS_N * BULK_APPENDS_N):
        assert verify(folder / "bulk").ok
    size = (folder / "bulk" / "log.sqlite").stat().st_size
    result["bytes_per_fact"] = round(size / (BULK_FACTS_N * BULK_APPENDS_N))
    result["fact_bytes"] = len(encode(fact(1)))
    return result


class timed:  # noqa: N801  # reads as a statement
    """Write events per second of wall and of processor time into a result."""

    def __init__(self, result: dict[str, Any], name: str, n: int) -> None:
        self._result, self._name, self._n = result, name, n

    async def __aenter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    async def __aexit__(self, *_: object) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self._result[self._name] = {"per_s": round(self._n / wall), "per_cpu_s": round(self._n / cpu)}


def batches(n: int) -> Iterator[SampleBatch]:
    """Make batches of `n` samples."""
    tag, at, status = np.arange(n, dtype=np.uint32), np.arange(n, dtype=np.int64), np.zeros(n, np.uint32)
    for seq in range(BATCHES_N):
        yield SampleBatch("opcua:cell1", 1, seq, tag, at, at, np.full(n, seq, np.float64), status)


async def segments(folder: Path) -> dict[str, Any]:
    """Measure batches as bytes, and as kept input."""
    result: dict[str, Any] = {}
    for n in (5, 50):
        made = list(batches(n))
        async with timed(result, f"encode_batch_of_{n}", BATCHES_N):
            encoded = [encode_batch(batch) for batch in made]
        async with timed(result, f"decode_batch_of_{n}", BATCHES_N):
            for data in encoded:
                decode_batch(data)
        writer = SegmentWriter(folder / f"kept{n}", cell="cell", bytes_max=8_000_000, keep_bytes=10**9)
        async with timed(result, f"keep_batch_of_{n}", BATCHES_N):
            for position, batch in enumerate(made, 1):
                if writer.append(Kept(position, position, batch)):
                    writer.rotate()
        writer.close()
        async with timed(result, f"read_kept_batch_of_{n}", BATCHES_N):
            assert sum(1 for _ in read_kept(folder / f"kept{n}")) == BATCHES_N
    return result


def measured(folder: Path | None, server: PostgresServer | None, deadline: float) -> dict[str, Any]:
    """Run everything."""
    result: dict[str, Any] = {"load_at_start": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        result |= asyncio.run(bulk(place))
        result |= asyncio.run(shared_bulk(place, server))
        result |= asyncio.run(segments(place))
        result |= asyncio.run(appends(place, server, deadline))
    return result


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to make the logs; its disk is what is measured")
    folder = parser.parse_args().folder
    begun = time.monotonic()
    programs = binaries()
    server = PostgresServer(programs, folder) if programs else None
    try:
        if server is not None:
            server.start()
        result = measured(folder, server, begun + DEADLINE_S)
    finally:
        if server is not None:
            server.remove()
    result["took_s"] = round(time.monotonic() - begun, 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
