"""Facts and small helpers that the tests of the event store share."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from connectors.clock import VirtualClock
from connectors.eventlog.sqlite import SqliteStore
from schemas.commands import Command
from schemas.facts import CommandIntended, Fact, IncidentJoined, IncidentOpened, LineStateChanged
from schemas.records import Recorded
from schemas.samples import SAMPLE_DTYPES, Control, Gap, Kept, LineEvent, SampleBatch, Tick

NOW_US = 1_700_000_000_000_000
HOUSE = Path(__file__).parents[1]
"""Where child processes find the packages."""
CELL = "plant/hall/line/cell1"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def clock() -> VirtualClock:
    return VirtualClock(NOW_US)


def state_fact(number: int) -> Fact:
    return LineStateChanged(at=NOW_US + number, state="EXECUTE é漢", number=number)


def facts_about(incident_id: str, command_id: str) -> list[Fact]:
    command = Command(command_id, "plan-1", incident_id, "gripper", "slow", "Slow", {}, {}, "plan")
    return [
        IncidentOpened(at=1, incident_id=incident_id, episode_id="episode-1", kind="process", asset="gripper"),
        IncidentJoined(at=2, incident_id=incident_id, episode_id="episode-2"),
        CommandIntended(at=3, command=command, command_sha256=command.sha256(), attempt=1),
    ]


async def collect(records: AsyncIterator[Recorded]) -> list[Recorded]:
    return [record async for record in records]


async def grow(store: Any, cells: tuple[str, ...], appends_n: int, *, facts_n: int = 1) -> None:
    """Append in turn to each cell, `facts_n` facts at a time."""
    taken = {cell: await store.take(cell) for cell in cells}
    versions = {cell: t.version for cell, t in taken.items()}
    inputs = {cell: t.positions.get("in", 0) for cell, t in taken.items()}
    for number in range(appends_n):
        cell = cells[number % len(cells)]
        appended = await store.append(
            cell,
            [state_fact(number * facts_n + k) for k in range(facts_n)],
            expected=versions[cell],
            advance={"in": (inputs[cell], inputs[cell] + 1)},
            epoch=taken[cell].epoch,
        )
        versions[cell] = appended.version
        inputs[cell] += 1


def make_log(folder: Path, *, cells: tuple[str, ...] = (CELL, "cell2"), appends_n: int = 30, facts_n: int = 1) -> None:
    """Write a log and close it."""

    async def write() -> None:
        async with SqliteStore.open(folder, clock=clock()) as store:
            await grow(store, cells, appends_n, facts_n=facts_n)

    run(write())


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Make the kernel refuse files beyond a size, as a full disk does: in part first, then wholly."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        signal.signal(signal.SIGXFSZ, handler)


def batch(seq: int, n: int = 3, *, source: str = "opcua:cell1") -> SampleBatch:
    """Samples with every kind of number in them, different for each `seq`."""
    rng = np.random.default_rng(seq)
    value = rng.normal(size=n)
    value[: min(n, 2)] = [np.nan, np.inf][: min(n, 2)]
    times = rng.integers(-(2**62), 2**62, size=(2, n))
    status = rng.integers(0, 2**32, size=n, dtype=np.uint32)
    return SampleBatch(source, 7, seq, np.arange(n, dtype=np.uint32), times[0], times[1], value, status)


def inputs(n: int) -> list[Kept]:
    """The first `n` inputs of a cell, of all five kinds in turn."""
    kinds = (
        lambda seq: batch(seq, seq % 5),
        lambda seq: LineEvent("line", 1, seq, "packml.state", NOW_US, 6, "é"),
        lambda seq: Gap("opcua:cell1", 1, seq, (1, 2), NOW_US, NOW_US + 1, "lost"),
        lambda seq: Tick("opcua:cell1", 1, seq, NOW_US, alive=True, stale=(4,)),
        lambda seq: Control("agent", 1, seq, "rebaseline", (3,), settle_s=2.5),
    )
    return [Kept(k, NOW_US + k, kinds[k % 5](k)) for k in range(1, n + 1)]


def same_input(one: Kept, other: Kept) -> bool:
    """Tell whether two kept inputs are equal to the last bit."""
    if not isinstance(one.input, SampleBatch):
        return one == other
    if not isinstance(other.input, SampleBatch) or (one.position, one.at_us) != (other.position, other.at_us):
        return False
    a, b = one.input, other.input
    columns = [(getattr(a, name), getattr(b, name)) for name in SAMPLE_DTYPES]
    return (a.source, a.epoch, a.seq) == (b.source, b.epoch, b.seq) and all(
        x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in columns
    )
