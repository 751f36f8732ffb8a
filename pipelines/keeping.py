"""Keeps the input of all cells in segments, as the embedded runtime does itself: for replay after the topic forgot it.

A process of its own, of no group: it reads `telemetry.v1`, puts each cell's messages into the same order as detection
does, and writes what comes out under the same numbers. Incidents pin their stretch. It may be as late as the topic is
long, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from connectors.eventlog.files import write_durably
from connectors.eventlog.segments import SegmentWriter
from connectors.eventlog.states import StateStore
from connectors.kafka.codec import decode_message, tag_table_sha256
from connectors.kafka.connection import client_arguments
from connectors.kafka.reading import span_of
from pipelines.config import Configuration
from pipelines.detecting import last_given
from pipelines.hosting import Folders
from pipelines.log_place import LogPlace
from pipelines.operation.ends import Ends, looking
from pipelines.operation.keep import ToldKeep
from pipelines.operation.server import telling
from pipelines.pins import Pins
from pipelines.stages.cell_stage import sequence_of
from pipelines.stages.sequence import Sequence
from pipelines.stages.sequence_memory import SequenceMemory, recall, remember
from pipelines.stores import open_states
from schemas.errors import CodecError, JidokaError, LogError
from schemas.plant import Cell
from schemas.samples import Tick
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.keep")

TOPIC = "telemetry.v1"
POLL_MS = 200
"""Wall time for which one poll waits."""
WAIT_S = 1.0
"""Wall time between two looks for the state of a cell that began before us, and for the log."""
CATCH_UP_S = 5.0
"""Wall time at the end for what is on the topic already."""


class Place(msgspec.Struct, frozen=True):
    """Where a cell's keeping stands; a file beside its segments."""

    offset: int
    sequence: SequenceMemory


@dataclass(slots=True)
class KeptCell:
    """One cell."""

    cell: Cell
    path: Path
    """Of its `Place`."""
    writer: SegmentWriter
    sequence: Sequence
    offset: int
    """Of the last message that was taken; -1 before the first."""
    tags_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        self.tags_sha256 = tag_table_sha256(self.cell)

    def take(self, record: Any) -> None:
        """Take one message of its partition; what cannot be read is detection's to tell."""
        if record.offset <= self.offset or record.key != self.cell.path.encode():
            return
        try:
            arrived = decode_message(record.key, record.value, tuple(record.headers))
        except CodecError:
            return
        self.offset = record.offset
        if arrived.tags_sha256 != self.tags_sha256:
            return
        for kept in self.sequence.take(arrived.at, arrived.input):
            if kept.position > self.writer.position and self.writer.append(kept):
                self.writer.rotate()
        if isinstance(arrived.input, Tick):
            self.sync()

    def sync(self) -> None:
        """Make all safe: first what was kept, then how far it is."""
        self.writer.sync()
        place = Place(self.offset, remember(self.sequence, self.cell.path, self.tags_sha256))
        write_durably(self.path, msgspec.msgpack.encode(place))


class Keeping(threading.Thread):
    """Reads and keeps, in a thread of its own."""

    def __init__(self, cells: list[KeptCell], connection: Mapping[str, Any], partitions: int) -> None:
        super().__init__(name="keep", daemon=True)
        self.failure: BaseException | None = None
        self.next_offsets: dict[int, int] = {}
        """By partition: behind the last message read."""
        self._cells, self._connection, self._partitions = cells, connection, partitions
        self._stopping = threading.Event()

    @property
    def positions(self) -> Mapping[str, int]:
        """Of the last input kept, by cell."""
        return {each.cell.path: each.writer.position for each in self._cells}

    def stop(self) -> None:
        """Take what is there, and end."""
        self._stopping.set()

    def run(self) -> None:
        """Read until told to stop."""
        consumer = KafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            group_id=None,
        )
        try:
            self._read(consumer)
        except BaseException as error:  # noqa: BLE001  # the top of the thread: the process ends by it
            self.failure = error
        finally:
            consumer.close(autocommit=False)

    def _read(self, consumer: Any) -> None:
        cells: dict[int, list[KeptCell]] = {}
        for each in self._cells:
            cells.setdefault(partition_of(each.cell.path, self._partitions), []).append(each)
        where = {number: TopicPartition(TOPIC, number) for number in cells}
        consumer.assign(list(where.values()))
        begins = consumer.beginning_offsets(list(where.values()))
        for number, kept in cells.items():
            self.next_offsets[number] = max(min(each.offset for each in kept) + 1, begins[where[number]])
            consumer.seek(where[number], self.next_offsets[number])
        ends: dict[Any, int] | None = None
        while ends is None or any(consumer.position(tp) < end for tp, end in ends.items()):
            for tp, records in consumer.poll(timeout_ms=POLL_MS).items():
                if records[0].offset != (wanted := self.next_offsets[tp.partition]):
                    # All behind it would be kept under other numbers than detection gave: begin again as `_open` does.
                    raise LogError(f"{TOPIC}/{tp.partition} goes on at message {records[0].offset} instead of {wanted}")
                for record in records:
                    for each in cells[tp.partition]:
                        each.take(record)
                self.next_offsets[tp.partition] = records[-1].offset + 1
            if ends is None and self._stopping.is_set():
                ends = consumer.end_offsets(list(where.values()))
        for each in self._cells:
            each.sync()


async def keeping(configuration: Configuration, kafka: KafkaSettings) -> None:
    """Keep the input of all cells until cancelled.

    Raises:
        ConnectionFault: the broker cannot be reached.
        LogError: the segments cannot be written.
    """
    pins: dict[str, Pins] = {cell.path: Pins() for cell in configuration.plant.cells}
    connection = client_arguments(kafka)
    ends = Ends(connection, TOPIC)
    told = ToldKeep(configuration.data, ends)
    async with open_states(configuration) as states, contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(telling(configuration.settings.http, told))
        await stack.enter_async_context(looking(ends))
        cells = [await _open(configuration, kafka, cell, states, pins[cell.path]) for cell in configuration.plant.cells]
        for each in cells:
            stack.callback(each.writer.close)
        thread = told.keeping = Keeping(cells, connection, kafka.partitions)
        following = asyncio.create_task(
            _follow(LogPlace(Folders(configuration.data), configuration.settings.postgres), pins)
        )
        thread.start()
        try:
            while thread.failure is None:
                await asyncio.sleep(WAIT_S / 4)
            raise thread.failure
        finally:
            following.cancel()
            thread.stop()
            await asyncio.to_thread(thread.join, CATCH_UP_S)


async def _open(
    configuration: Configuration, kafka: KafkaSettings, cell: Cell, states: StateStore, pins: Pins
) -> KeptCell:
    settings, folder = configuration.settings.segments, Folders(configuration.data).segments(cell)
    writer = SegmentWriter(
        folder,
        cell=cell.path,
        bytes_max=settings.bytes_max,
        keep_bytes=settings.keep_bytes,
        keep_pinned_bytes=settings.keep_pinned_bytes,
        pins=pins,
    )
    path = folder / "place"
    if path.exists():
        try:
            place = msgspec.msgpack.decode(path.read_bytes(), type=Place)
        except msgspec.DecodeError as error:
            raise LogError(f"{path}: {error}: delete the folder, and keeping begins anew") from error
        kept = KeptCell(cell, path, writer, recall(place.sequence), place.offset)
        partition = partition_of(cell.path, kafka.partitions)
        begin, end = await asyncio.to_thread(span_of, client_arguments(kafka), TOPIC, partition)
        if kept.offset >= end:
            LOG.warning(
                "%s: kept up to message %d, and the topic ends at %d: made anew, or cut", path, kept.offset, end
            )
            kept.offset = -1  # The sources' own numbers tell what was kept.
        elif kept.offset + 1 < begin:
            await _go_on_behind(kept, states)
        return kept
    while (saved := await states.load(cell.path)) is None:
        if await asyncio.to_thread(last_given, kafka, cell.path) == 0:
            return KeptCell(cell, path, writer, Sequence(), -1)
        await asyncio.sleep(WAIT_S)  # Detection began before us: go on from where it will have saved.
    return KeptCell(cell, path, writer, recall(sequence_of(saved)), saved.offset)


async def _go_on_behind(kept: KeptCell, states: StateStore) -> None:
    """Leave out what the topic deleted before it was kept: what comes then must bear the numbers detection gave."""
    saved = await states.load(kept.cell.path)
    if saved is None or saved.position <= kept.sequence.position:
        return  # Nothing of this cell was deleted.
    first = kept.writer.position + 1
    LOG.warning("%s: inputs %d to %d will not be kept: the topic deleted some", kept.cell.path, first, saved.position)
    kept.writer.skip(saved.position)
    kept.sequence, kept.offset = recall(sequence_of(saved)), saved.offset
    kept.sync()


async def _follow(place: LogPlace, pins: Mapping[str, Pins]) -> None:
    """Learn from the log which stretches incidents need."""
    while True:
        with contextlib.suppress(JidokaError):
            store = place.open()
            try:
                async for record in store.read_all(follow=True):
                    if record.cell in pins:
                        pins[record.cell].see([record.fact], record.inputs.get("input", 0))
            finally:
                await store.close()
        await asyncio.sleep(WAIT_S)
