"""What holds facts, blobs and detectors' states: files of one machine, or PostgreSQL for agents on several."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.ports import Blobs, EventStore
from connectors.clock import SystemClock
from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.states import SqliteStates, StateStore
from pipelines.config import Configuration
from pipelines.hosting import Folders


@asynccontextmanager
async def open_store(configuration: Configuration) -> AsyncIterator[tuple[EventStore, str]]:
    """Open the log for deciding; gives it with its id, and closes it.

    Raises:
        ConnectionFault: the server cannot be reached.
        LogError: another writer has it, or it does not open.
        LogCorrupt: what is stored does not verify.
    """
    folder, postgres = Folders(configuration.data).log, configuration.settings.postgres
    if postgres is None:
        store = SqliteStore.open(folder, clock=SystemClock())
        async with store:
            yield store, store.log_id
        return
    from connectors.eventlog.postgres import PostgresStore

    async with await PostgresStore.open(postgres, folder, clock=SystemClock()) as shared:
        yield shared, shared.log_id


@asynccontextmanager
async def open_blobs(configuration: Configuration) -> AsyncIterator[Blobs]:
    """Open the blobs, which all processes of the agent share.

    Raises:
        ConnectionFault: the server cannot be reached.
    """
    postgres = configuration.settings.postgres
    if postgres is None:
        yield FileBlobs(Folders(configuration.data).blobs)
        return
    from connectors.eventlog.postgres_blobs import PostgresBlobs

    blobs = await asyncio.to_thread(PostgresBlobs, postgres)
    with contextlib.closing(blobs):
        yield blobs


@asynccontextmanager
async def open_states(configuration: Configuration) -> AsyncIterator[StateStore]:
    """Open the detectors' states, which all workers share.

    Raises:
        ConnectionFault: the server cannot be reached.
        LogError: the file cannot be used.
    """
    postgres = configuration.settings.postgres
    states: StateStore
    if postgres is None:
        folders = Folders(configuration.data)
        folders.data.mkdir(parents=True, exist_ok=True)
        states = SqliteStates(folders.states)
    else:
        from connectors.eventlog.postgres_states import PostgresStates

        states = await asyncio.to_thread(PostgresStates, postgres)
    try:
        yield states
    finally:
        await states.close()
