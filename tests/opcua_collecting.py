"""Helpers of the OPC UA system tests: settings for a stand-in PLC, a running collector, a killed server."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np

from connectors.clock import ScaledClock, SystemClock
from connectors.opcua import pki
from connectors.opcua.session import APPLICATION_URI, COMMON_NAME
from connectors.opcua.subscribe import OpcUaCollector
from schemas.plant import Cell
from schemas.samples import Input, SampleBatch, Tick
from schemas.settings import OpcUaSettings
from tests.opcua_plc import PASSWORDS, Plc

PATIENCE_S = 15.0
START_S = 60.0
"""For a process to be ready on a machine that does other things too."""
SPEED = 5.0
"""Ticks per second of wall time, where a test does not look at times."""


def settings(url: str, **changes: object) -> OpcUaSettings:
    """In clear and fast."""
    body = {"url": url, "security": "None", "publishing_ms": 50.0, "sampling_ms": 20.0, "dead_after_s": 1.0}
    return OpcUaSettings.model_validate(body | {"backoff_s": 0.1, "backoff_s_max": 0.5} | changes)


def secure_settings(url: str, folder: Path, **changes: object) -> OpcUaSettings:
    """As a plant would have it; passwords are written to `folder`."""
    users = {}
    for name, password in PASSWORDS.items():
        path = folder / f"{name}.password"
        path.touch(mode=0o600)
        path.write_text(password + "\n")
        users[name] = {"name": name, "password_file": str(path)}
    body = {"url": url, "security": "SignAndEncrypt", "certificates": str(folder / "agent"), "publishing_ms": 50.0}
    return OpcUaSettings.model_validate(body | users | changes)


def fast_clock() -> ScaledClock:
    return ScaledClock(SystemClock().now_us(), SPEED)


def trust_each_other(agent: Path, plc: Path, plc_uri: str) -> None:
    """Make both certificates and put each into the other's `trusted/`."""
    ours = pki.ensure_certificate(agent, application_uri=APPLICATION_URI, common_name=COMMON_NAME)
    theirs = pki.ensure_certificate(plc, application_uri=plc_uri, common_name="Test PLC")
    pki.trust(plc, ours.certificate)
    pki.trust(agent, theirs.certificate)


class Collected:
    """A running collector and what it gave."""

    def __init__(self, cell: Cell, connection: OpcUaSettings, **more: object) -> None:
        self.inputs: list[Input] = []
        self.arrived = asyncio.Event()
        self.may_take = asyncio.Event()
        self.may_take.set()
        rng = np.random.default_rng(1)
        self.collector = OpcUaCollector(
            cell, connection, more.pop("clock", None) or fast_clock(), epoch=3, rng=rng, **more
        )

    async def sink(self, item: Input) -> None:
        await self.may_take.wait()
        self.inputs.append(item)
        self.arrived.set()

    async def until(self, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not holds():
                self.arrived.clear()
                await self.arrived.wait()

    def of(self, kind: type) -> list:
        return [item for item in self.inputs if isinstance(item, kind)]

    def samples(self, tag: int) -> list[tuple[float, int]]:
        return [
            (float(value), int(status))
            for batch in self.of(SampleBatch)
            for number, value, status in zip(batch.tag, batch.value, batch.status, strict=True)
            if number == tag
        ]

    def alive(self) -> bool:
        ticks = self.of(Tick)
        return bool(ticks) and ticks[-1].alive


@contextlib.asynccontextmanager
async def collecting(cell: Cell, connection: OpcUaSettings, **more: object) -> AsyncIterator[Collected]:
    collected = Collected(cell, connection, **more)
    task = asyncio.create_task(collected.collector.run(collected.sink))
    try:
        yield collected
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()
        assert asyncio.all_tasks() - {asyncio.current_task()} == set(collected_elsewhere(asyncio.all_tasks()))


def collected_elsewhere(tasks: set[asyncio.Task]) -> list[asyncio.Task]:
    """Tasks of the test itself and of servers in this process; the collector's and its client's must be gone."""
    current = asyncio.current_task()
    mine = ("connectors/opcua", "asyncua/client")
    return [t for t in tasks if t is not current and not any(m in str(t.get_coro().cr_code.co_filename) for m in mine)]


@contextlib.asynccontextmanager
async def plc_process(port: int, *, delay_s: float = 0.0) -> AsyncIterator[asyncio.subprocess.Process]:
    """The stand-in as a process of its own; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.opcua_plc", str(port), str(delay_s),
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_S):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Stage:
    """A stand-in PLC that lives through the tests of a module; its loop runs only while one of them does."""

    def __init__(self, plc: Plc) -> None:
        self.plc = plc
        self._runner = asyncio.Runner()
        self._runner.run(plc.__aenter__())

    def play(self, scenario: Callable[[Plc], Awaitable[None]], patience_s: float = 60.0) -> None:
        self._runner.run(asyncio.wait_for(self._play(scenario), patience_s))

    async def _play(self, scenario: Callable[[Plc], Awaitable[None]]) -> None:
        await self.plc.reset()
        await scenario(self.plc)

    def close(self) -> None:
        self._runner.run(self.plc.__aexit__())
        self._runner.close()


def run(scenario: Callable[[], Awaitable[None]], patience_s: float = 60.0) -> None:
    asyncio.run(asyncio.wait_for(scenario(), patience_s))
