"""The collector against a real server over TCP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import numpy as np

from connectors.clock import SystemClock
from connectors.opcua.subscribe import OpcUaCollector
from schemas.samples import Gap, Input, LineEvent, SampleBatch, Tick
from schemas.settings import OpcUaSettings
from tests.opcua_plc import INT32, Plc, cell, free_port

PATIENCE_S = 10.0


def settings(url: str, **changes: object) -> OpcUaSettings:
    body = {"url": url, "security": "None", "publishing_ms": 50.0, "sampling_ms": 20.0, "dead_after_s": 1.0}
    return OpcUaSettings.model_validate(body | changes)


class Collected:
    """A running collector and what it gave."""

    def __init__(self, plant_cell, connection: OpcUaSettings, **more: object) -> None:
        self.inputs: list[Input] = []
        self.changed = asyncio.Event()
        rng = np.random.default_rng(1)
        self.collector = OpcUaCollector(plant_cell, connection, SystemClock(), epoch=3, rng=rng, **more)

    async def sink(self, item: Input) -> None:
        self.inputs.append(item)
        self.changed.set()

    async def until(self, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    def of(self, kind: type) -> list:
        return [item for item in self.inputs if isinstance(item, kind)]

    def values(self, tag: int) -> list[float]:
        return [float(v) for b in self.of(SampleBatch) for t, v in zip(b.tag, b.value, strict=True) if t == tag]

    def alive(self) -> bool:
        return bool(self.of(Tick)) and self.of(Tick)[-1].alive


@contextlib.asynccontextmanager
async def collecting(plant_cell, connection: OpcUaSettings, **more: object):
    collected = Collected(plant_cell, connection, **more)
    task = asyncio.create_task(collected.collector.run(collected.sink))
    try:
        yield collected
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_samples_state_and_ticks_come_in_one_gapless_order() -> None:
    async def scenario() -> None:
        async with Plc(free_port()) as plc, collecting(cell(), settings(plc.url)) as got:
            await got.until(lambda: got.alive() and len(got.of(Tick)) >= 3)
            await plc.put("State", 11, INT32)
            await got.until(lambda: len(got.of(LineEvent)) == 2)
            assert [item.seq for item in got.inputs] == list(range(len(got.inputs)))
            assert {(item.source, item.epoch) for item in got.inputs} == {("opcua:cell1", 3)}
            assert [event.value for event in got.of(LineEvent)] == [6, 11]
            assert got.of(Gap) == []
            assert got.collector.problems == ()
            assert set(got.values(2)) <= {20.0 + n for n in range(7)}

    run(scenario)
