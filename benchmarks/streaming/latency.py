"""From a sample to its episode through broker and worker, with samples that come at a fixed rate.

Many cells, each with one batch and one tick a second, spread evenly over the second: what a plant's collectors send. A
row is complete with its tick, which follows its batch at once; so what is measured is the way, and not the waiting for
the end of a second (up to one) nor `lateness_s` (two by default, 0 here).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.streaming.plant import T0, Load, S, cells_of, messages
from benchmarks.streaming.topic import IN, OUT, preload
from benchmarks.streaming.workers import Workers, started
from connectors.kafka.codec import Message
from connectors.kafka.connection import aiokafka_arguments
from schemas.facts import AnomalyDetected
from schemas.observations import Observation, decode_observation
from schemas.plant import Cell
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

WARM_S, MEASURED_S = 34, 40
"""Seconds of plant time: those that are there before, and those that come at their time."""
AFTER_S = 3.0
"""Wall time for the last observation to arrive."""
PER_SECOND = 2
"""Messages of a cell: a batch and a tick."""
HEAD = 2
"""Messages before a cell's first second."""

Times = dict[tuple[str, int], float]
"""Wall time by cell and plant second."""


def measure_latency(settings: KafkaSettings, samples_per_s: int, folder: Path) -> dict[str, object]:
    """Return the figures: from the row that opens an episode, and from any tick, to the observation of it."""
    load = Load(tags=1000, cells=samples_per_s // 1000, rows=WARM_S + MEASURED_S, fault_every_rows=16)
    cells = cells_of(load, settings.partitions)
    with started(settings, cells, folder, 1) as workers:
        workers.signal(signal.SIGSTOP)
        given = [messages(cell, load, seed=seed) for seed, cell in enumerate(cells)]
        warm = HEAD + PER_SECOND * WARM_S
        preload(settings, (message for each in given for _, message in zip(range(warm), each, strict=False)))
        workers.signal(signal.SIGCONT)
        return asyncio.run(_paced(settings, workers, cells, given))


async def _paced(
    settings: KafkaSettings, workers: Workers, cells: Sequence[Cell], given: Sequence[object]
) -> dict[str, object]:
    arguments = aiokafka_arguments(settings)
    sent: Times = {}
    came: Times = {}
    opened: Times = {}
    async with AIOKafkaProducer(**arguments, acks=1) as producer, AIOKafkaConsumer(**arguments) as consumer:
        consumer.assign([TopicPartition(OUT, number) for number in range(settings.partitions)])
        await consumer.seek_to_beginning()
        listening = asyncio.create_task(_listen(consumer, came, opened))
        while len(came) < len(cells) * WARM_S:
            workers.check()
            await asyncio.sleep(0.1)
        before_s, began_s = workers.cpu_s(), time.perf_counter()
        behind_s = await _send(producer, settings, cells, given, sent)
        took_s = time.perf_counter() - began_s
        await asyncio.sleep(AFTER_S)
        cpu_s = workers.cpu_s() - before_s
        listening.cancel()
    assert sent.keys() <= came.keys(), f"{len(sent.keys() - came.keys())} observations did not come"
    samples = len(sent) * len(cells[0].tags)
    return {
        "samples_per_s": round(samples / took_s),
        "sender_behind_ms": round(behind_s * 1e3, 1),
        "worker_cpu_pct": round(100 * cpu_s / took_s, 1),
        "episodes": len(opened.keys() & sent.keys()),
        "sample_to_episode_ms": _percentiles(sent, opened),
        "tick_to_observation_ms": _percentiles(sent, came),
    }


async def _send(
    producer: AIOKafkaProducer, settings: KafkaSettings, cells: Sequence[Cell], given: Sequence[object], sent: Times
) -> float:
    """Send each cell's second at its time; returns how late it was at worst."""
    began_s, behind_s = time.perf_counter(), 0.0
    for second in range(WARM_S, WARM_S + MEASURED_S):
        for number, cell in enumerate(cells):
            pair: list[Message] = [next(given[number]) for _ in range(PER_SECOND)]  # type: ignore[call-overload]
            due_s = began_s + second - WARM_S + number / len(cells)
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            now_s = time.perf_counter()
            behind_s = max(behind_s, now_s - due_s)
            sent[cell.path, second + 1] = now_s
            partition = partition_of(cell.path, settings.partitions)
            for each in pair:
                await producer.send(IN, each.value, each.key, partition, headers=list(each.headers))
    await producer.flush()
    return behind_s


async def _listen(consumer: AIOKafkaConsumer, came: Times, opened: Times) -> None:
    async for record in consumer:
        now_s = time.perf_counter()
        observation: Observation = decode_observation(record.value)
        second = (observation.at - T0) // S
        if observation.tick and second:
            came.setdefault((observation.cell, second), now_s)
        if any(isinstance(fact, AnomalyDetected) for fact in observation.facts):
            opened.setdefault((observation.cell, second), now_s)


def _percentiles(sent: Times, came: Times) -> dict[str, float]:
    taken_ms = [(came[key] - sent[key]) * 1e3 for key in sent.keys() & came.keys()]
    return {f"p{q}": round(float(np.percentile(taken_ms, q)), 1) for q in (50, 99)}
