"""The decision service as a process: store, cells by assignment, the mirror of the log, and the operator's way in."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from connectors.kafka.connection import check_reachable, client_arguments
from pipelines.config import Configuration
from pipelines.hosting import Folders, Parts, clock_of
from pipelines.operation.decide import ToldDecide
from pipelines.operation.ends import Ends, looking
from pipelines.operation.measured import Measured
from pipelines.operation.server import telling
from pipelines.operator_socket import OperatorSocket
from pipelines.stages.consumer import Consumer
from pipelines.stages.deciding import ANOMALIES, Decider
from pipelines.stages.mirror import Mirror
from pipelines.stores import open_blobs, open_store
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings

LOOK_S = 0.2
"""Wall time between two looks at whether it can go on."""
JOIN_S = 10.0
"""Wall time for the consumer's thread to end."""
HUNG_S = 20.0
"""Wall time for one poll of the consumer. It comes back after `POLL_MS`, also while the group waits for another member,
and after `REVOKE_S` where cells have to stop."""


@dataclass(slots=True)
class Deciding:
    """A running decision service."""

    decider: Decider
    consumer: Consumer
    mirror: Mirror

    @property
    def failure(self) -> BaseException | None:
        """Why it cannot go on, if so."""
        return self.consumer.failure or self.decider.failure or self.consumer.stalled


@asynccontextmanager
async def deciding(configuration: Configuration, kafka: KafkaSettings, parts: Parts) -> AsyncIterator[Deciding]:
    """Run the decision service; everything is closed in order at the end.

    Raises:
        ConnectionFault: broker or database cannot be reached.
        LogError: another writer has the log, or it does not open.
    """
    await asyncio.to_thread(check_reachable, kafka)
    connection, clock, folders = client_arguments(kafka), clock_of(configuration.settings), Folders(configuration.data)
    async with contextlib.AsyncExitStack() as stack:
        store, log_id = await stack.enter_async_context(open_store(configuration))
        blobs = await stack.enter_async_context(open_blobs(configuration))
        measured = Measured(store)
        decider = Decider(configuration, kafka, parts, measured, blobs, clock)
        stack.push_async_callback(decider.close)
        operators = OperatorSocket(folders.socket, decider.services, clock, off_file=folders.off_file)
        await operators.start()
        stack.push_async_callback(operators.close)
        mirror = Mirror(store, connection, kafka.partitions, log_id, ours=lambda: decider.has(0))
        copying = asyncio.ensure_future(mirror.run())
        stack.push_async_callback(_end, copying)
        consumer = Consumer(decider, asyncio.get_running_loop())
        consumer.start()
        stack.push_async_callback(_join, consumer)
        ends = Ends(connection, ANOMALIES)
        told = ToldDecide(configuration, (decider, consumer, mirror), measured, ends, clock)
        await stack.enter_async_context(telling(configuration.settings.http, told))
        await stack.enter_async_context(looking(ends))
        yield Deciding(decider, consumer, mirror)


async def until_failure(running: Deciding) -> None:
    """Return never; raise what stopped it."""
    consumer, seen, looks_n = running.consumer, 0, 0
    while (failure := running.failure) is None:
        # Looks are counted, and not time: while the whole process stood still nobody looked.
        looks_n = looks_n + 1 if consumer.polling and consumer.polls_n == seen else 0
        seen = consumer.polls_n
        if looks_n * LOOK_S > HUNG_S:
            failure = ConnectionFault(f"the consumer does not come back from a poll for {HUNG_S:g} s")
            break
        await asyncio.sleep(LOOK_S)
    if looks_n or consumer.stalled is not None:
        # Whoever looks for the cause needs to know where each thread stands: kafka-python's is one of them.
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
    raise failure


async def _end(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _join(consumer: Consumer) -> None:
    consumer.stop()
    await asyncio.to_thread(consumer.join, JOIN_S)
