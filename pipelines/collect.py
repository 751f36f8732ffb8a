"""The collector process of the Kafka runtime: what a plant says into the spool, and from there to `telemetry.v1`.

A cell that `streams.toml` has entries for is collected from the plant's own topics, every other one over OPC UA.

Nothing that is imported from here can write to a plant.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from connectors.clock import SystemClock
from connectors.kafka.codec import tag_table_sha256
from connectors.kafka.forward import Forwarder
from connectors.kafka.intake import Intake
from connectors.kafka.plant_topics import PlantTopics
from connectors.kafka.spool import Spool
from connectors.kafka.stream_order import source_name
from connectors.kafka.syncing import SYNC_WITHIN_S, Syncer
from connectors.recordings.play import play
from connectors.recordings.sniff import Sniffed, sniff
from pipelines.config import Configuration
from pipelines.hosting import MakeSource, Source, clock_of
from pipelines.observe import collector
from pipelines.streams import streams_by_cell
from schemas.plant import Cell
from schemas.samples import Input, Tick
from schemas.settings import KafkaSettings

FLUSH_S: Final = 5.0
"""Wall time at the end for sending what is in the spool; the rest is sent after the next start."""
UNSYNCED_MAX: Final = 1_000
"""Messages that may wait for the disk before the sources are held back."""
PATIENT_SHARE: Final = 0.5
"""Of the spool, for sources that can wait, since a topic keeps what is not read; the rest is for those that cannot."""
LOOK_S: Final = 0.1
"""Wall time between two looks at whether it can go on, or a source that waits may."""
RECORDING_BYTES_MAX: Final = 128_000_000
"""Of the spool through which a recording goes."""
RECORDING_SAMPLES_MAX: Final = 20_000
"""In a batch of a recording: what one message can carry."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How a collector does; everything is counted from its start."""

    taken_n: int
    """Messages in the spool."""
    taken_samples_n: int
    lost_samples_n: int
    """For want of room in the spool, or refused by a broker for good; each stretch is told as a gap."""
    lost_messages_n: int
    """Messages of any kind for want of room."""
    sent_n: int
    """Messages given to a producer, repeated ones too."""
    acknowledged_n: int
    retries_n: int
    refused_n: int
    spool_bytes: int
    unacknowledged_n: int
    """Messages in the spool that no broker has."""
    oldest_s: float
    """Agent time since the oldest of them was taken; 0 if there is none."""
    connected: bool
    fault: str
    """Why nothing can be sent now; empty: it can."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last tick of a cell's source."""

    at_s: float
    """Wall time, `time.monotonic`."""
    alive: bool


class Collecting:
    """A spool with what fills, syncs and empties it."""

    def __init__(
        self, spool: Spool, cells: Sequence[Cell], forwarder: Forwarder, *, resuming: Collection[str] = ()
    ) -> None:
        """Start the threads that sync and send.

        Args:
            spool: Open; closed by whoever opened it.
            cells: Whose input will come.
            forwarder: Of this spool; not started yet.
            resuming: Sources that read on where they ended.
        """
        self.spool, self.forwarder, self._syncer = spool, forwarder, Syncer(spool)
        self.heard: dict[str, Heard | None] = {cell.path: None for cell in cells}
        """By cell; None: no tick yet."""
        self.topics: dict[str, PlantTopics] = {}
        """By cell path, of the cells that are collected from the plant's own topics."""
        self._intake = Intake(spool, {cell.path: tag_table_sha256(cell) for cell in cells}, resuming=resuming)
        self._syncer.start()
        forwarder.start()

    @property
    def failure(self) -> BaseException | None:
        """Why it cannot go on, if so."""
        return self._syncer.failure or self.forwarder.failure

    def take(self, cell: Cell, at: int, item: Input) -> None:
        """Write one input into the spool, or count it as lost.

        Raises:
            LogHalted: the disk failed.
        """
        self._intake.take(cell.path, at, item)
        if isinstance(item, Tick):
            self.heard[cell.path] = Heard(time.monotonic(), item.alive)
            self._syncer.urge()

    @property
    def behind(self) -> bool:
        """Whether so much waits for the disk that sources should be held back."""
        return self.spool.position - self.spool.synced > UNSYNCED_MAX

    @property
    def filling(self) -> bool:
        """Whether so much waits for a broker that sources should be held back that can wait."""
        return self.spool.bytes_n > self.spool.bytes_max * PATIENT_SHARE

    def figures(self, now_us: int) -> Figures:
        """Return how it does.

        Args:
            now_us: Agent time, microseconds since 1970 UTC.
        """
        taken, sent = self._intake.counters, self.forwarder.counters
        return Figures(
            taken_n=taken.messages_n,
            taken_samples_n=taken.samples_n,
            lost_samples_n=taken.lost_samples_n + sent.lost_samples_n,
            lost_messages_n=taken.lost_messages_n,
            sent_n=sent.sent_n,
            acknowledged_n=sent.acknowledged_n,
            retries_n=sent.retries_n,
            refused_n=sent.refused_n,
            spool_bytes=self.spool.bytes_n,
            unacknowledged_n=self.spool.position - self.spool.acknowledged,
            oldest_s=0.0 if sent.oldest_at is None else (now_us - sent.oldest_at) / 1e6,
            connected=sent.connected,
            fault=self.forwarder.fault,
        )

    def close(self, *, flush_s: float) -> None:
        """Sync all, send what goes within a time, and end."""
        self._syncer.stop()
        self.forwarder.stop(within_s=flush_s)
        self.forwarder.join()


@contextmanager
def spooling(
    folder: Path,
    cells: Sequence[Cell],
    kafka: KafkaSettings,
    *,
    partitions: int | None,
    bytes_max: int,
    flush_s: float = FLUSH_S,
    resuming: Collection[str] = (),
    first_epoch: int | None = None,
) -> Iterator[Collecting]:
    """Run spool and threads.

    Args:
        folder: Of the spool.
        cells: Whose input will come.
        kafka: Brokers and security.
        partitions: Of the topic; None: as many as it has.
        bytes_max: Of the spool.
        flush_s: Wall time at the end for sending what is left.
        resuming: Sources that read on where they ended.
        first_epoch: For a new folder; None: wall seconds since 1970, more than any earlier folder's.

    Raises:
        LogError: the folder cannot be used.
    """
    now_s = SystemClock().now_us() // 1_000_000
    spool = Spool(folder, bytes_max=bytes_max, first_epoch=now_s if first_epoch is None else first_epoch)
    try:
        collecting = Collecting(spool, cells, Forwarder(spool, kafka, partitions=partitions), resuming=resuming)
        try:
            yield collecting
        finally:
            collecting.close(flush_s=flush_s)
    finally:
        spool.close()


@asynccontextmanager
async def collecting_cells(
    configuration: Configuration,
    cells: Sequence[Cell],
    kafka: KafkaSettings,
    *,
    partitions: int | None,
    bytes_max: int,
    make_source: MakeSource | None = None,
) -> AsyncIterator[Collecting]:
    """Collect cells until the block ends; the rest of the block may look on.

    Args:
        configuration: Server and clock.
        cells: Some or all of its cells.
        kafka: Brokers and security.
        partitions: Of the topic; None: as many as it has.
        bytes_max: Of the spool.
        make_source: Makes the source of a cell that has no topics of its own; None: OPC UA.

    Raises:
        ConfigError: `streams.toml` is there and not right.
        LogError: the spool's folder cannot be used.
    """
    clock, streams = clock_of(configuration.settings), streams_by_cell(configuration)
    make_source = make_source or collector(configuration, np.random.default_rng())
    folder, resuming = spool_folder(configuration, cells), {source_name(cell) for cell in cells}
    opened = spooling(folder, cells, kafka, partitions=partitions, bytes_max=bytes_max, resuming=resuming)
    with opened as collecting:

        def source_of(cell: Cell) -> Source:
            epoch, head = collecting.spool.epoch, collecting.spool.heads.get(source_name(cell))
            if cell.id not in streams:
                return make_source(cell, epoch)
            ended_at = None if head is None else head.at
            topics = collecting.topics[cell.path] = PlantTopics(
                cell, streams[cell.id], kafka, clock, collecting.spool, epoch=epoch, ended_at=ended_at
            )
            return topics

        def sink_of(cell: Cell) -> Callable[[Input], Awaitable[None]]:
            async def sink(item: Input) -> None:
                while cell.path in collecting.topics and collecting.filling and collecting.failure is None:
                    await asyncio.sleep(LOOK_S)
                collecting.take(cell, clock.now_us(), item)
                while collecting.behind and collecting.failure is None:
                    await asyncio.sleep(SYNC_WITHIN_S)

            return sink

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_until_failure(collecting))]
            running += [tasks.create_task(source_of(cell).run(sink_of(cell))) for cell in cells]
            try:
                yield collecting
            finally:
                for task in running:
                    task.cancel()


def spool_folder(configuration: Configuration, cells: Sequence[Cell]) -> Path:
    """Return where the spool of a process that collects these cells lies: one process, one folder."""
    everything = len(cells) == len(configuration.plant.cells)
    return configuration.data / "spool" / ("all" if everything else "+".join(sorted(cell.id for cell in cells)))


async def _until_failure(collecting: Collecting) -> None:
    while collecting.failure is None:
        await asyncio.sleep(LOOK_S)
    raise collecting.failure


def collect_recording(
    path: Path, kafka: KafkaSettings, *, partitions: int | None, mapped: Sniffed | None = None
) -> Figures:
    """Put a recording onto the topic as its cell's input; agent time is its watermark. Returns when a broker has it.

    Args:
        path: CSV, CSV.gz or Parquet.
        kafka: Brokers and security.
        partitions: Of the topic; None: as many as it has.
        mapped: How the file is read; None: as it seems to be.

    Raises:
        RecordingError: the file cannot be used.
    """
    known = mapped or sniff(path)
    rows = min(known.mapping.rows_per_batch, max(1, RECORDING_SAMPLES_MAX // len(known.mapping.columns)))
    messages = play(path, known.mapping.model_copy(update={"rows_per_batch": rows}), known.cell)
    at = 0
    with TemporaryDirectory(prefix="jidoka-") as folder:
        opened = spooling(
            Path(folder) / "spool",
            [known.cell],
            kafka,
            partitions=partitions,
            bytes_max=RECORDING_BYTES_MAX,
            flush_s=0.0,
            # Two plays within a second must not bear the same numbers.
            first_epoch=SystemClock().now_us(),
        )
        with opened as collecting:
            for item in messages:
                if isinstance(item, Tick):
                    at = max(at, item.complete_until)
                _wait(collecting, lambda: collecting.spool.bytes_n < RECORDING_BYTES_MAX / 2)
                collecting.take(known.cell, at, item)
            _wait(collecting, lambda: collecting.spool.empty)
            return collecting.figures(at)


def _wait(collecting: Collecting, until: Callable[[], bool]) -> None:
    while not until():
        if collecting.failure is not None:
            raise collecting.failure
        time.sleep(SYNC_WITHIN_S)
