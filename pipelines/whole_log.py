"""A whole log in memory, with the blobs that its facts name: for what looks at all of it, such as replay and proof."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from agent.ports import Blobs
from connectors.eventlog.blobs import FileBlobs, MemoryBlobs
from pipelines.log_place import LogPlace
from schemas.facts import ConfigAdopted, DetectorSnapshotted
from schemas.records import Recorded
from schemas.settings import PostgresSettings


@dataclass(frozen=True, slots=True)
class WholeLog:
    """Every record of a log, in order, and where its blobs are."""

    records: list[Recorded]
    blobs: Blobs

    def of(self, cell: str) -> list[Recorded]:
        """Return one cell's records."""
        return [record for record in self.records if record.cell == cell]

    @property
    def cells(self) -> list[str]:
        """The cells in it, in the order of their first records."""
        return list(dict.fromkeys(record.cell for record in self.records))


def read_whole(place: LogPlace) -> WholeLog:
    """Read a log. Nothing outside this process is needed any more after it.

    Raises:
        ConnectionFault: the server cannot be reached.
        LogError: no log is here.
        LogCorrupt: a position is missing, or a row cannot be read.
    """

    async def read() -> list[Recorded]:
        store = place.open()
        try:
            return [record async for record in store.read_all()]
        finally:
            await store.close()

    records = asyncio.run(read())
    return WholeLog(records, blobs_of(place, records))


def blobs_of(place: LogPlace, records: Iterable[Recorded]) -> Blobs:
    """Return the blobs beside a log; of a shared one, those that these records name, in memory.

    Raises:
        ConnectionFault: the server cannot be reached.
    """
    if place.postgres is None:
        return FileBlobs(place.folders.blobs)
    return _fetched(place.postgres, records)


def _fetched(postgres: PostgresSettings, records: Iterable[Recorded]) -> MemoryBlobs:
    from connectors.eventlog.postgres_blobs import PostgresBlobs

    named = [
        fact.sha256
        for record in records
        if record.type in ("config.adopted/1", "detector.snapshotted/1")
        and isinstance(fact := record.fact, ConfigAdopted | DetectorSnapshotted)
    ]
    fetched = MemoryBlobs()
    with contextlib.closing(PostgresBlobs(postgres)) as blobs:
        for sha256 in dict.fromkeys(named):
            with contextlib.suppress(KeyError):  # Whoever needs it says that it is gone.
                fetched.put(blobs.get(sha256))
    return fetched
