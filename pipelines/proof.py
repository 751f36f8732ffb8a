"""Proves a data folder: its log verifies, and replay comes to the same facts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.reader import open_readonly
from connectors.eventlog.segments import read_kept
from connectors.eventlog.verify import verify
from pipelines.replaying import replay_cell, sections
from pipelines.runner import Folders
from schemas.errors import JidokaError
from schemas.records import Recorded


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it."""

    good: bool
    text: str


def prove(data: Path) -> Proof:
    """Verify and replay everything below a data folder."""
    folders = Folders(data)
    try:
        verification = verify(folders.log)
        if not verification.ok:
            return Proof(False, f"the log does not verify: {verification}")
        return _replayed(folders, asyncio.run(_records(folders.log)))
    except JidokaError as error:
        return Proof(False, f"no proof: {error}")


async def _records(folder: Path) -> list[Recorded]:
    store = open_readonly(folder)
    try:
        return [record async for record in store.read_all()]
    finally:
        await store.close()


def _replayed(folders: Folders, records: list[Recorded]) -> Proof:
    blobs, compared, began, plant_s = FileBlobs(folders.blobs), 0, time.perf_counter(), 0.0
    for cell in dict.fromkeys(record.cell for record in records):
        mine = [record for record in records if record.cell == cell]
        segments = folders.segments(sections(mine, blobs, cell)[-1].rules.cell)
        result = replay_cell(mine, lambda after, at=segments: read_kept(at, after=after), blobs, cell)  # type: ignore[misc]
        if result.divergence is not None:
            return Proof(False, f"replay differs at position {result.divergence.position}")
        compared, plant_s = compared + result.facts_compared, plant_s + result.plant_s
    ratio = plant_s / max(time.perf_counter() - began, 1e-9)
    return Proof(True, f"log of {len(records)} facts verifies, {compared} derived facts replay the same ({ratio:.0f}x)")
