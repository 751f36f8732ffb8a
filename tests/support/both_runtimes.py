"""One recorded input through either runtime, by the playback clock: agent time is the input's watermark."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaProducer

from agent.guard.question import Rulebook
from agent.ports import Reasoner
from connectors.clock import VirtualClock
from connectors.eventlog.blobs import MemoryBlobs
from connectors.eventlog.memory import MemoryStore
from connectors.kafka.codec import encode_message, tag_table_sha256
from connectors.kafka.connection import client_arguments
from connectors.kafka.reading import read_range
from connectors.notifiers.command import LogNotifier
from connectors.plant.direct import DirectPlant
from pipelines.advising import Advisor
from pipelines.config import DECISIVE, Configuration
from pipelines.decide import CellService, Storage
from pipelines.intake import Intake, KeptIntake
from pipelines.simulation import MemoryKeeper
from pipelines.stages.observed import ObservedIntake
from schemas import facts
from schemas.facts import DERIVED_NAMES, AnyFact
from schemas.observations import Delivered, decode_observation
from schemas.plans import Tier
from schemas.records import Recorded
from schemas.samples import Input, Tick
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

DETECT_S = 60.0


def recording(plant: DirectPlant, story: Sequence[tuple[str, float]]) -> list[Input]:
    """Let a plant run: for each (fault, seconds) break it so (empty: nothing), and go on for so long."""
    inputs: list[Input] = []
    for fault, seconds in story:
        if fault:
            plant.station.inject(fault, 1.0, "")
        until_us = plant.clock.now_us() + int(seconds * 1e6)
        while plant.clock.now_us() < until_us:
            inputs += next(plant.steps()).inputs
    return inputs


def watermarks(inputs: Sequence[Input]) -> Iterator[tuple[int, Input]]:
    """Each input with its agent time: the watermark of the last tick up to it."""
    at = 0
    for item in inputs:
        if isinstance(item, Tick):
            at = max(at, item.complete_until)
        yield at, item


def derived(records: Sequence[Recorded]) -> list[tuple[str, int, str, bytes]]:
    """What replay compares."""
    return [(r.cell, r.version, r.type, r.data) for r in records if r.type in DERIVED_NAMES]


def embedded(rules: Rulebook, inputs: Sequence[Input], reasoner: Reasoner) -> list[Recorded]:
    """Through the embedded runtime."""
    clock, blobs = VirtualClock(), MemoryBlobs()
    intake = KeptIntake(MemoryKeeper(), blobs, clock)
    return asyncio.run(_decided(rules, clock, blobs, intake, watermarks(inputs), reasoner))


def decided(rules: Rulebook, delivered: Sequence[Delivered], reasoner: Reasoner) -> list[Recorded]:
    """Observations of a detection that ran elsewhere, through a decision service."""
    clock, blobs = VirtualClock(), MemoryBlobs()

    async def fetch(start: int, until: int) -> Sequence[Delivered]:
        return [d for d in delivered if start <= d.offset < until]

    messages = ((d.at_us, d) for d in delivered)
    return asyncio.run(_decided(rules, clock, blobs, ObservedIntake(blobs, fetch), messages, reasoner))


async def _decided(
    rules: Rulebook,
    clock: VirtualClock,
    blobs: MemoryBlobs,
    intake: Intake,
    messages: Iterator[tuple[int, Input | Delivered]],
    reasoner: Reasoner,
) -> list[Recorded]:
    store = MemoryStore(clock=clock)
    service = CellService(rules, Storage(store, blobs), intake, clock, queue_max=1_000)
    by_tier: dict[Tier, Reasoner] = {"reflex": reasoner, "proposal": reasoner}
    advisor = Advisor(service, rules.cell, clock, by_tier, [LogNotifier()])
    adopted: list[AnyFact] = [
        facts.ConfigAdopted(at=0, name=name, sha256=name, who="test", reason="test") for name in DECISIVE
    ]
    started = facts.AgentStarted(at=0, version="0", code_sha256="0", mode="observe", epoch=0)
    await service.start(advisor, [*adopted, started])
    running = asyncio.create_task(service.run())
    try:
        for at, message in messages:
            clock.advance(at)
            await service.put(message)
            await service.settle()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await advisor.close()
    return [record async for record in store.read_all()]


def detected(configuration: Configuration, kafka: KafkaSettings, inputs: Sequence[Input]) -> list[Delivered]:
    """Through `telemetry.v1` and a real worker; returns what it put on `anomalies.v1` until the last tick's."""
    cell = configuration.plant.cells[0]
    partition, tags = partition_of(cell.path, kafka.partitions), tag_table_sha256(cell)
    producer = KafkaProducer(**client_arguments(kafka), acks="all")
    try:
        for at, item in watermarks(inputs):
            message = encode_message(cell.path, at, item, tags)
            producer.send(
                "telemetry.v1", key=message.key, value=message.value, headers=list(message.headers), partition=partition
            )
        producer.flush(30.0)
    finally:
        producer.close(5.0)
    last = len(inputs) - next(n for n, item in enumerate(reversed(inputs)) if isinstance(item, Tick))
    with worker(configuration.folder):
        return _until(kafka, cell.path, partition, last)


@contextmanager
def worker(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `jidoka detect`."""
    process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", "detect", "--config", str(config)])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(kafka: KafkaSettings, cell: str, partition: int, position: int) -> list[Delivered]:
    """Read `anomalies.v1` until it holds the observation of an input."""
    until_s = time.monotonic() + DETECT_S
    while time.monotonic() < until_s:
        records = list(read_range(client_arguments(kafka), "anomalies.v1", partition, 0))
        found = [Delivered(r.offset, decode_observation(r.value)) for r in records if r.key == cell.encode()]
        if found and found[-1].position >= position:
            return found
        time.sleep(0.5)
    raise AssertionError(f"no observation of input {position} within {DETECT_S:g} s")
