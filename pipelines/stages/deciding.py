"""The cells of a decision service on Kafka: each taken, folded and gone on with where the store says.

Which cells these are, and their messages, come from `pipelines.stages.consumer`. Two processes may believe for a while
that they have the same cell: the store fences the one that took it first, and robots refuse it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from agent.ports import Blobs, Clock, EventStore
from connectors.kafka.connection import client_arguments
from connectors.kafka.reading import observations_of, read_range
from pipelines.config import Configuration
from pipelines.decide import CellService, Storage
from pipelines.hosting import HostedCell, Parts
from pipelines.stages.observed import ObservedIntake
from pipelines.stages.partition import UNKNOWN_MAX
from pipelines.stages.upstream import Upstream
from schemas.errors import CodecError
from schemas.facts import AnyFact, OperatorRequested, decode
from schemas.observations import OFFSET, Delivered, decode_observation
from schemas.plant import Cell
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.decide")

ANOMALIES, OPERATORS = "anomalies.v1", "operator-requests.v1"
LOOK_S = 0.5
"""Wall time between two looks at whether a cell that has work in hand still runs."""
UNKNOWN_BYTES_MAX = 200
"""Of a key: so much tells cells apart."""


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
        """Begin without any cell; a producer connects.

        Args:
            configuration: All cells that may be assigned.
            settings: Brokers and security.
            parts: What fulfils wishes and runs beside a cell.
            store: The log, open for deciding.
            blobs: What facts name.
            clock: Agent time.
        """
        self.settings = settings
        self.services: dict[str, CellService] = {}
        """By cell path."""
        self.connection = client_arguments(settings)
        self._configuration, self._parts = configuration, parts
        self._store, self._blobs, self._clock = store, blobs, clock
        self._upstream = Upstream(self.connection, settings.partitions, clock)
        self._hosted: dict[int, list[HostedCell]] = {}
        self._paths = frozenset(cell.path for cell in configuration.plant.cells)
        self._unknown: set[bytes] = set()
        self.passed_over = 0
        """Observations of cells that are not configured."""
        self.dead_letters = 0
        """Messages that could not be used; each is on `dead-letters.v1`."""

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
            if self._hosted.get(partition) is not hosted:  # Revoked while it started.
                await each.stop()
                continue
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
        return [Delivered(offset, observation) for offset, observation in observations_of(records, cell)]

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
                observation = decode_observation(record.value or b"")
                service = self._service_of(record, observation.cell)
            except CodecError as error:
                if not self._passed_over(record):
                    await self._bury(record, error)
                continue
            if service is not None:
                await self._until_done(service, service.put(Delivered(record.offset, observation)))

    async def requested(self, records: Sequence[Any]) -> int:
        """Take messages of `operator-requests.v1`; return behind which offset the last is that is a durable fact."""
        for record in records:
            try:
                fact = decode(record.value or b"")
                if not isinstance(fact, OperatorRequested):
                    raise CodecError(f"a fact of another type: {type(fact).__name__}")
                service = self._service_of(record, (record.key or b"").decode(errors="replace"))
            except CodecError as error:
                await self._bury(record, error)
                continue
            if service is None or not await self._recorded(service, fact):
                return int(record.offset)
        return int(records[-1].offset) + 1

    def _service_of(self, record: Any, cell: str) -> CellService | None:
        """Return the service of a message's cell; None: it has just been taken from us.

        Raises:
            CodecError: no such cell is configured, or the message lies where its cell's do not.
        """
        if cell not in self._paths:
            raise CodecError(f"cell {cell[:100]!r} is not in plant.toml")
        wanted = partition_of(cell, self.settings.partitions)
        if record.key != cell.encode() or record.partition != wanted:
            raise CodecError(f"key {(record.key or b'')[:100]!r} in partition {record.partition} is not that of {cell}")
        return self.services.get(cell)

    def _passed_over(self, record: Any) -> bool:
        """Count what is of a cell that is not ours; the first of each is told, and not the whole past of a cell."""
        key = (record.key or b"")[:UNKNOWN_BYTES_MAX]
        if key.decode(errors="replace") in self._paths:
            return False
        self.passed_over += 1
        if key in self._unknown or len(self._unknown) >= UNKNOWN_MAX:
            return True
        self._unknown.add(key)
        return False

    async def _bury(self, record: Any, error: CodecError) -> None:
        LOG.error("%s/%d at %d refused: %s", record.topic, record.partition, record.offset, error)
        self.dead_letters += 1
        await self._upstream.bury(record, str(error))

    async def _recorded(self, service: CellService, fact: OperatorRequested) -> bool:
        """Hand a request on and wait until it is a durable fact; false: it did not come to that here."""
        if fact.request_id in service.state.seen_requests:
            return True  # It came before: an offset is committed behind the fact, and may not have been.
        done = asyncio.Event()

        def listen(appended: Sequence[AnyFact]) -> None:
            if fact in appended:
                done.set()

        service.listeners.append(listen)
        try:
            await self._until_done(service, _put_and_wait(service, fact, done))
        finally:
            service.listeners.remove(listen)
        return done.is_set()

    async def _until_done(self, service: CellService, work: Coroutine[Any, Any, None]) -> None:
        """Do it, unless the service stops before: then nobody would ever take it from the queue."""
        task = asyncio.ensure_future(work)
        while not task.done() and service.failed is None and self.services.get(service.cell) is service:
            await asyncio.wait([task], timeout=LOOK_S)
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def close(self) -> None:
        """Stop everything."""
        await self.revoked(list(self._hosted))
        await asyncio.to_thread(self._upstream.close)


async def _put_and_wait(service: CellService, fact: OperatorRequested, done: asyncio.Event) -> None:
    await service.put(fact)
    await done.wait()
