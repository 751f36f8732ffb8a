"""The faults of a running line, each a function: breaks something, mends it, and returns when all goes on by itself.

None judges what came of the data: `judging.judged` does, once, after one fault or many.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
from kafka import KafkaProducer

from connectors.kafka.reading import read_range
from tests.support.kafka_broker import plain
from tests.support.kafka_faults.line import Line
from tests.support.kafka_faults.poison import poisoned

Fault = Callable[[Line, np.random.Generator, float], Awaitable[None]]
"""Breaks a line; the last argument is how long something is away or stands still, wall seconds."""
AMONG_S = 2.0
"""Wall time of load before a fault, at most."""
REPEATED_MAX = 400
"""Messages that are sent once more."""


async def broker_killed(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """kill -9 of the only broker, and a start at once."""
    await _among(rng)
    (broker,) = line.cluster.brokers
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)
    await _recovered(line, "broker killed")


async def broker_away(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """The only broker is killed, and away for a time."""
    await _among(rng)
    (broker,) = line.cluster.brokers
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(pause_s)
    await asyncio.to_thread(broker.start)
    await _recovered(line, "broker away")


async def one_of_three_killed(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """kill -9 of one of three brokers; it comes back later, and that disturbs nobody either."""
    await _among(rng)
    broker = line.cluster.brokers[int(rng.integers(len(line.cluster.brokers)))]
    await asyncio.to_thread(broker.kill)
    await _recovered(line, "one of three killed")
    await asyncio.to_thread(broker.start)
    await _recovered(line, "one of three back")


async def worker_killed(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """kill -9 of a detection worker in mid batch: with observations given out that no state was saved behind."""
    await _among(rng)
    line.signal(_any_worker(line, rng), signal.SIGKILL)
    await _recovered(line, "worker killed")


async def workers_1_3_1(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """Two more workers come, and go again in order, one after the other."""
    for name in ("detect-2", "detect-3"):
        await line.start(name)
    await line.shared_by(3)
    await _recovered(line, "workers 1 to 3")
    for name in ("detect-3", "detect-2"):
        await _among(rng)
        await line.stop(name)
    await line.shared_by(1)
    await _recovered(line, "workers 3 to 1")


async def worker_paused(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """A worker stands still past its session while another takes its partitions; then it goes on, and knows nothing."""
    await line.start("detect-2")
    await line.shared_by(2)
    await _recovered(line, "worker joined")
    await _among(rng)
    name = _any_worker(line, rng)
    line.signal(name, signal.SIGSTOP)
    try:
        await asyncio.sleep(pause_s)
        line.recovered_s["worker paused: the other"] = await line.flowing()
    finally:
        line.signal(name, signal.SIGCONT)
    await _recovered(line, "worker resumed")
    await line.stop("detect-2")
    await _recovered(line, "worker left")


async def only_worker_paused(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """The only worker stands still past its session, and goes on."""
    await _among(rng)
    line.signal("detect-1", signal.SIGSTOP)
    try:
        await asyncio.sleep(pause_s)
    finally:
        line.signal("detect-1", signal.SIGCONT)
    await _recovered(line, "only worker paused")


async def decide_killed(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """kill -9 of a decision service that observes."""
    await _among(rng)
    line.signal("decide", signal.SIGKILL)
    line.recovered_s["decide killed"] = await line.decided()


async def decide_paused(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """The decision service stands still past its session."""
    await _among(rng)
    line.signal("decide", signal.SIGSTOP)
    try:
        await asyncio.sleep(pause_s)
    finally:
        line.signal("decide", signal.SIGCONT)
    line.recovered_s["decide paused"] = await line.decided()


async def repeated_and_reordered(line: Line, rng: np.random.Generator, pause_s: float) -> None:
    """Somebody sends stretches of both topics again, in another order, while new messages come."""
    await _among(rng)
    await asyncio.to_thread(_send_again, line, rng)
    await _recovered(line, "repeated and reordered")


def _send_again(line: Line, rng: np.random.Generator) -> None:
    producer = KafkaProducer(**plain(line.cluster), acks="all", linger_ms=5)
    try:
        for topic in ("telemetry.v1", "anomalies.v1"):
            for number in range(line.configuration.settings.kafka.partitions):
                records = list(read_range(plain(line.cluster), topic, number, 0))
                begin = int(rng.integers(max(1, len(records) - REPEATED_MAX // 2)))
                again = records[begin : begin + REPEATED_MAX]
                sent = [
                    producer.send(topic, r.value, r.key, list(r.headers), number)
                    for r in (again[int(n)] for n in rng.permutation(len(again)))
                ]
                for each in sent:
                    each.get(timeout=30)
    finally:
        producer.close()


async def _among(rng: np.random.Generator) -> None:
    await asyncio.sleep(float(rng.uniform(0.2, AMONG_S)))


async def _recovered(line: Line, what: str) -> None:
    line.recovered_s[what] = await line.flowing()
    if "decide" in line.names:
        line.recovered_s[f"{what}: decided"] = await line.decided()


def _any_worker(line: Line, rng: np.random.Generator) -> str:
    names = [name for name in line.names if name.startswith("detect")]
    return names[int(rng.integers(len(names)))]


FAULTS: Mapping[str, Fault] = {
    "broker-killed": broker_killed,
    "broker-away": broker_away,
    "worker-killed": worker_killed,
    "workers-1-3-1": workers_1_3_1,
    "worker-paused": worker_paused,
    "only-worker-paused": only_worker_paused,
    "decide-killed": decide_killed,
    "decide-paused": decide_paused,
    "repeated-reordered": repeated_and_reordered,
    "poison": poisoned,
}
"""On a line with one broker."""
ON_THREE: Mapping[str, Fault] = {"one-of-three-killed": one_of_three_killed}
"""On a line with three."""
ALL: Mapping[str, Fault] = {**FAULTS, **ON_THREE}
