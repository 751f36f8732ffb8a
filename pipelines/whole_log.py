"""A whole log as a list, for what looks at all of it: replay, proof."""

from __future__ import annotations

import asyncio
from pathlib import Path

from connectors.eventlog.reader import open_readonly
from schemas.records import Recorded


def read_whole(folder: Path) -> list[Recorded]:
    """Return every record of a log, in order.

    Raises:
        LogError: no log is here.
        LogCorrupt: a position is missing or a row cannot be read.
    """

    async def read() -> list[Recorded]:
        store = open_readonly(folder)
        try:
            return [record async for record in store.read_all()]
        finally:
            await store.close()

    return asyncio.run(read())
