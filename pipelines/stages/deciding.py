"""The decision service on Kafka: cells by assignment, each taken, folded and gone on with where the store says.

A consumer group deals the partitions of `anomalies.v1` among processes; its offsets are not used. Two processes may
believe for a while that they have the same cell: the store fences the one that took it first, and robots refuse it too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from agent.ports import Blobs, Clock, EventStore
from connectors.kafka.connection import client_arguments
from connectors.kafka.reading import read_range
from pipelines.config import Configuration
from pipelines.decide import CellService, Storage
from pipelines.hosting import HostedCell, Parts
from pipelines.stages.observed import ObservedIntake
from pipelines.stages.upstream import Upstream
from schemas.errors import CodecError
from schemas.facts import AnyFact, OperatorRequested, decode
from schemas.observations import OFFSET, Delivered, decode_observation
from schemas.plant import Cell
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.decide")

GROUP = "jidoka-decide"
ANOMALIES, OPERATORS = "anomalies.v1", "operator-requests.v1"
POLL_MS = 200
POLL_MAX = 500
"""Messages in one answer of the consumer."""
BACK_S = 0.5


class Decider:
    """The cells that this process has."""

    def __init__(
        self,
        configuration: Configuration,
        settings: KafkaSettings,
        parts: Parts,
        store: EventStore,
        blobs: Blobs,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.services: dict[str, CellService] = {}
        """By cell path."""
        self.connection = client_arguments(settings)
        self._configuration, self._parts = configuration, parts
        self._store, self._blobs, self._clock = store, blobs, clock
        self._upstream = Upstream(self.connection, settings.partitions, clock)
        self._hosted: dict[int, list[HostedCell]] = {}

    @property
    def failure(self) -> BaseException | None:
        """Why a cell stopped, if one did."""
        return next((s.failed for s in self.services.values() if s.failed is not None), None)

    def has(self, partition: int) -> bool:
        """Whether the cells of a partition run here."""
        return partition in self._hosted

    async def assigned(self, partition: int) -> int:
        """Start the cells of a partition; return the offset of `anomalies.v1` from which they go on.

        Raises:
            LogError: the log of a cell cannot be gone on with.
        """
        cells = [
            cell
            for cell in self._configuration.plant.cells
            if partition_of(cell.path, self.settings.partitions) == partition
        ]
        hosted = self._hosted[partition] = [self._host(cell) for cell in cells]
        for each in hosted:
            await each.start(self._blobs)
            self.services[each.service.cell] = each.service
            each.run()
        return min((each.service.places.get(OFFSET, 0) for each in hosted), default=0)

    def _host(self, cell: Cell) -> HostedCell:
        configuration = self._configuration
        service = CellService(
            configuration.rules_for(cell),
            Storage(self._store, self._blobs),
            ObservedIntake(self._blobs, partial(self._fetch, cell.path)),
            self._clock,
            queue_max=configuration.settings.queue_max,
        )
        service.outlet = partial(self._upstream.publish, service)
        return HostedCell(configuration, self._parts, service, self._clock)

    async def _fetch(self, cell: str, start: int, until: int) -> Sequence[Delivered]:
        return await asyncio.to_thread(self._read, cell, start, until)

    def _read(self, cell: str, start: int, until: int) -> list[Delivered]:
        partition = partition_of(cell, self.settings.partitions)
        records = read_range(self.connection, ANOMALIES, partition, start, until)
        return [
            Delivered(record.offset, decode_observation(record.value))
            for record in records
            if record.key == cell.encode()
        ]

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Stop the cells of these partitions: another process may have them already."""
        for partition in partitions:
            for each in self._hosted.pop(partition, []):
                self.services.pop(each.service.cell, None)
                await each.stop()

    async def observed(self, records: Sequence[Any]) -> None:
        """Hand on messages of `anomalies.v1`, in order."""
        for record in records:
            try:
                observation = decode_observation(record.value)
            except CodecError as error:
                LOG.error("%s/%d at %d: %s", record.topic, record.partition, record.offset, error)
                continue
            service = self.services.get(observation.cell)
            if service is not None:
                await service.put(Delivered(record.offset, observation))

    async def requested(self, records: Sequence[Any]) -> None:
        """Take messages of `operator-requests.v1`; return when they are durable facts."""
        for record in records:
            try:
                fact = decode(record.value)
                service = self.services[(record.key or b"").decode()]
                if not isinstance(fact, OperatorRequested):
                    raise CodecError(f"a fact of another type: {type(fact).__name__}")
            except (CodecError, KeyError, UnicodeDecodeError) as error:
                LOG.error("%s/%d at %d refused: %s", record.topic, record.partition, record.offset, error)
                continue
            await _durable(service, fact)

    async def close(self) -> None:
        """Stop everything."""
        await self.revoked(list(self._hosted))
        await asyncio.to_thread(self._upstream.close)


async def _durable(service: CellService, fact: OperatorRequested) -> None:
    done = asyncio.Event()

    def listen(appended: Sequence[AnyFact]) -> None:
        if fact in appended:
            done.set()

    service.listeners.append(listen)
    try:
        await service.put(fact)
        while not done.is_set() and service.failed is None:
            await asyncio.wait([asyncio.ensure_future(done.wait())], timeout=BACK_S)
    finally:
        service.listeners.remove(listen)


class Consumer(threading.Thread, ConsumerRebalanceListener):  # type: ignore[misc]
    """Polls in a thread of its own, and hands over to the event loop; waits while that is behind."""

    def __init__(self, decider: Decider, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="decide-consumer", daemon=True)
        self.failure: BaseException | None = None
        """Why it ended by itself."""
        self.polled_s = time.monotonic()
        """Wall time of the last poll."""
        self._decider, self._loop = decider, loop
        self._stopping = threading.Event()
        self._changes: list[tuple[str, set[int]]] = []

    def stop(self) -> None:
        """End after the present round."""
        self._stopping.set()

    # ConsumerRebalanceListener: called within poll; what follows is done behind it.
    def on_partitions_revoked(self, revoked: Any) -> None:
        """Note it."""
        self._changes.append(("revoked", {tp.partition for tp in revoked}))

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Note it."""
        self._changes.append(("assigned", {tp.partition for tp in assigned}))

    def run(self) -> None:
        """Poll until told to stop."""
        settings = self._decider.settings
        consumer = KafkaConsumer(
            **self._decider.connection,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_s * 1000),
            heartbeat_interval_ms=int(settings.session_s * 1000 / 4),
            max_poll_records=POLL_MAX,
            reconnect_backoff_max_ms=1_000,
            # Both topics have the same number of partitions: by ranges a process gets the same ones of both.
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        try:
            consumer.subscribe([ANOMALIES, OPERATORS], listener=self)
            while not self._stopping.is_set():
                self._round(consumer)
        except BaseException as error:  # noqa: BLE001  # the top of the thread: the process ends by it
            self.failure = error
        finally:
            consumer.close(autocommit=False)

    def _round(self, consumer: Any) -> None:
        polled = consumer.poll(timeout_ms=POLL_MS)
        self.polled_s = time.monotonic()
        changes, self._changes = self._changes, []
        for kind, partitions in changes:
            if kind == "revoked":
                self._await(self._decider.revoked(sorted(partitions)))
                continue
            for partition in sorted(partitions):
                if not self._decider.has(partition):
                    consumer.seek(TopicPartition(ANOMALIES, partition), self._await(self._decider.assigned(partition)))
        began = {partition for kind, partitions in changes if kind == "assigned" for partition in partitions}
        for where, records in polled.items():
            if not self._decider.has(where.partition):
                continue
            if where.topic == ANOMALIES:
                if where.partition not in began:  # Otherwise it comes again, from where the store says.
                    self._await(self._decider.observed(records))
            else:
                self._await(self._decider.requested(records))
                consumer.commit_async({where: OffsetAndMetadata(records[-1].offset + 1, "", -1)})

    def _await(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
