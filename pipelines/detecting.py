"""The detection worker as a process: a Faust app on the running loop, a watchdog beside it.

It ends by itself, and with an error, when it can no longer be trusted to go on; whoever started it starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import faust
from faust.contrib.asgi import faust_app_running
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from yarl import URL

from connectors.kafka.connection import client_arguments, faust_arguments
from connectors.kafka.outage import Outage
from connectors.kafka.reading import observations_of, read_backwards
from connectors.kafka.seldom import hush
from pipelines.config import Configuration
from pipelines.operation.detect import ToldDetect
from pipelines.operation.ends import Ends, looking
from pipelines.operation.server import telling
from pipelines.stages.detect import (
    BUFFER_MAX,
    FETCH_BYTES_MAX,
    GROUP,
    HEARTBEAT_S,
    IN,
    OUT,
    POLL_MAX,
    SEND_BYTES_MAX,
    SEND_S,
    Worker,
)
from pipelines.stages.parcels import Parcels
from pipelines.stores import open_blobs, open_states
from schemas.errors import ConnectionFault, LogError
from schemas.settings import KafkaSettings
from schemas.topics import OBSERVATION_BYTES_MAX, partition_of

LOG = logging.getLogger("jidoka.detect")

STOP_S = 10.0
"""Wall time for an orderly end."""
LOOK_S = 0.2
WATCH_S = 5.0
"""Wall time between two looks at what the broker says was committed."""
STALLED = 70
"""Exit status when messages wait and nothing was committed for `kafka.stalled_s`."""


def make_app(configuration: Configuration, kafka: KafkaSettings) -> faust.App:
    """Return the Faust app, without agents."""
    connection = faust_arguments(kafka)
    return faust.App(
        GROUP,
        broker=[URL(each) for each in connection["broker"].split(";")],
        broker_credentials=connection["broker_credentials"],
        datadir=str(configuration.data / "faust"),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        processing_guarantee="at_least_once",
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_replication_factor=kafka.replication,
        table_standby_replicas=0,
        broker_session_timeout=kafka.session_s,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_request_timeout=max(40.0, 2 * kafka.session_s),
        ConsumerScheduler=Parcels,
        broker_max_poll_records=POLL_MAX,
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        stream_buffer_maxsize=BUFFER_MAX,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        producer_linger=0,
        producer_max_batch_size=SEND_BYTES_MAX,
        producer_max_request_size=OBSERVATION_BYTES_MAX,
        producer_request_timeout=SEND_S,
    )


async def detecting(configuration: Configuration, kafka: KafkaSettings) -> None:
    """Run a worker until it is cancelled.

    Raises:
        ConnectionFault: the broker is away for too long, or refuses.
        LogError: states or blobs cannot be used.
    """
    hush()
    async with open_states(configuration) as states, open_blobs(configuration) as blobs:
        app = make_app(configuration, kafka)
        rules = {cell.path: configuration.rules_for(cell) for cell in configuration.plant.cells}
        worker = Worker(
            app,
            kafka,
            rules,
            states,
            blobs,
            snapshot_bytes=configuration.settings.segments.bytes_max,
            last_given=lambda cell: asyncio.to_thread(last_given, kafka, cell),
        )
        ends = Ends(client_arguments(kafka), IN, group=GROUP)
        told = ToldDetect(kafka, worker, ends)
        async with faust_app_running(app, stop_timeout=STOP_S), contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(telling(configuration.settings.http, told))
            await stack.enter_async_context(looking(ends))
            watchdog = Watchdog(client_arguments(kafka), kafka.stalled_s, worker.partitions)
            watchdog.start()
            try:
                await _until_crashed(app)
            finally:
                watchdog.stop()


async def _until_crashed(app: faust.App) -> None:
    while not app.crashed and not app.should_stop:
        await asyncio.sleep(LOOK_S)
    reason = getattr(app, "_crash_reason", None)
    if isinstance(reason, LogError):
        raise reason
    raise ConnectionFault(f"the worker ended by itself: {reason!r}")


def last_given(kafka: KafkaSettings, cell: str) -> int:
    """Return the position of the cell's last observation on `anomalies.v1`, 0 if there is none.

    Raises:
        ConnectionFault: the broker does not give what it has.
    """
    connection, partition = client_arguments(kafka), partition_of(cell, kafka.partitions)
    observations = observations_of(read_backwards(connection, OUT, partition), cell)
    return next((observation.position for _, observation in observations), 0)


class Watchdog(threading.Thread):
    """Ends the process when one of its partitions has messages waiting and the broker saw no commit for too long.

    A process that has none answers for all of them: a group that was never dealt, or a worker that was left out, has
    nobody else who would notice.

    It asks the broker, by clients of its own, in a thread of its own: whatever hangs in the worker does not hang here.
    """

    def __init__(self, connection: Mapping[str, Any], stalled_s: float, ours: Callable[[], set[int]]) -> None:
        """Prepare.

        Args:
            connection: Arguments of a Kafka client.
            stalled_s: Wall time.
            ours: Gives the partitions that this process has now.
        """
        super().__init__(name="watchdog", daemon=True)
        self._connection, self._stalled_s, self._ours = connection, stalled_s, ours
        self._stopping = threading.Event()
        self._outage = Outage(LOG, "watchdog")
        self._moved: dict[int, tuple[int, float]] = {}
        """By partition: what was committed last, and when it was first seen."""

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.wait(WATCH_S):
            try:
                stalled = self._stalled(self._committed(), self._spans())
            except Exception as error:  # noqa: BLE001  # a broker that is away is no reason to end: nobody could commit
                self._outage.is_on(error)
                self._moved.clear()
                continue
            self._outage.is_over()
            if stalled:
                LOG.critical("nothing committed for %g s while messages wait in %s", self._stalled_s, stalled)
                os._exit(STALLED)

    def _stalled(self, committed: Mapping[int, int], spans: Mapping[int, tuple[int, int]]) -> list[int]:
        now_s, ours = time.monotonic(), self._ours()
        watched = ours or set(spans)
        # A partition of which nothing was ever committed counts from the oldest message that it still has.
        self._moved = {number: seen for number, seen in self._moved.items() if number in watched}
        for number in watched:
            begin, end = spans.get(number, (0, 0))
            at = committed.get(number, begin)
            if end <= at or self._moved.get(number, (-1, 0.0))[0] != at:
                self._moved[number] = (at, now_s)
        return sorted(number for number, (_, since_s) in self._moved.items() if now_s - since_s > self._stalled_s)

    def _committed(self) -> dict[int, int]:
        admin = KafkaAdminClient(**self._connection)
        try:
            found = admin.list_group_offsets(GROUP)[GROUP]
            return {tp.partition: at.offset for tp, at in found.items() if tp.topic == IN}
        finally:
            admin.close()

    def _spans(self) -> dict[int, tuple[int, int]]:
        """Return, by partition, the offset of the oldest message that is kept, and the one behind the newest."""
        consumer = KafkaConsumer(**self._connection, group_id=None)
        try:
            numbers = consumer.partitions_for_topic(IN) or set()
            where = [TopicPartition(IN, n) for n in numbers]
            begins, ends = consumer.beginning_offsets(where), consumer.end_offsets(where)
            return {tp.partition: (begins[tp], end) for tp, end in ends.items()}
        finally:
            consumer.close(autocommit=False)
