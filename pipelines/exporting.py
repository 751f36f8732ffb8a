"""Exports what is stored in forms that others read: facts as JSON lines (CloudEvents names), samples as Parquet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from connectors.eventlog.segment_reading import read_kept, stretches
from pipelines.hosting import Folders
from pipelines.log_place import LogPlace
from pipelines.replaying import sections
from pipelines.whole_log import blobs_of
from schemas.errors import LogError
from schemas.plant import Cell
from schemas.records import Recorded
from schemas.samples import SampleBatch


@dataclass(frozen=True, slots=True)
class Exported:
    """How much was written."""

    facts: int
    samples: int


async def export(place: LogPlace, out: Path) -> Exported:
    """Write `facts.jsonl` and `samples.parquet` into a new folder; nothing is left behind if it fails.

    Raises:
        LogError: the folder exists, or the log cannot be read.
    """
    if out.exists():
        raise LogError(f"{out} exists: name a folder that does not, nothing is overwritten")
    building = out.with_name(out.name + ".part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        facts, cells = await _facts(place, building / "facts.jsonl")
        samples = _samples(place.folders, cells, building / "samples.parquet")
        os.replace(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Exported(facts, samples)


async def _facts(place: LogPlace, path: Path) -> tuple[int, list[Cell]]:
    """Write every fact; returns how many, and the cells as they were configured last."""
    store, by_cell = place.open(), dict[str, list[Recorded]]()
    try:
        with path.open("w", encoding="utf-8") as lines:
            async for record in store.read_all():
                lines.write(cloud_event(record) + "\n")
                by_cell.setdefault(record.cell, []).append(record)
    finally:
        await store.close()
    blobs = blobs_of(place, (record for records in by_cell.values() for record in records))
    cells = [sections(records, blobs, cell)[-1].rules.cell for cell, records in by_cell.items()]
    return sum(map(len, by_cell.values())), cells


def cloud_event(record: Recorded) -> str:
    """Return a record as a CloudEvents 1.0 JSON event; `data` is the stored fact."""
    envelope = {
        "specversion": "1.0",
        "id": f"{record.cell}#{record.version}",
        "source": f"/{record.cell}",
        "type": record.type,
        "time": datetime.fromtimestamp(record.recorded_at / 1e6, UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "sequence": str(record.version),
        "logpos": str(record.position),
        "chain": record.chain.hex(),
        "data": json.loads(record.data),
    }
    return json.dumps(envelope, separators=(",", ":"))


def _samples(folders: Folders, cells: Sequence[Cell], path: Path) -> int:
    """Write all kept samples: cell path, input position, tag with name and unit, times (µs UTC), value, StatusCode."""
    frames = [_frame(folders.segments(cell), cell) for cell in cells]
    frame = pl.concat([_empty(), *frames])
    frame.write_parquet(path)
    return frame.height


def _frame(folder: Path, cell: Cell) -> pl.DataFrame:
    parts = [_columns(cell.path, position, batch) for position, batch in _batches(folder)]
    names = pl.DataFrame(
        {
            "tag": [tag.id for tag in cell.tags],
            "name": [tag.name for tag in cell.tags],
            "unit": [tag.unit for tag in cell.tags],
        },
        schema={"tag": pl.UInt32, "name": pl.String, "unit": pl.String},
    )
    samples = pl.concat(parts) if parts else _empty().drop("name", "unit")
    return samples.join(names, on="tag", how="left", maintain_order="left").select(_empty().columns)


def _batches(folder: Path) -> Iterator[tuple[int, SampleBatch]]:
    for stretch in stretches(folder):
        for kept in read_kept(folder, after=stretch.first - 1, until=stretch.last):
            if isinstance(kept.input, SampleBatch):
                yield kept.position, kept.input


def _columns(cell: str, position: int, batch: SampleBatch) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "tag": batch.tag,
            "source_at": batch.source_at,
            "server_at": batch.server_at,
            "value": batch.value,
            "status": batch.status,
        }
    ).select(pl.lit(cell).alias("cell"), pl.lit(position, pl.Int64).alias("position"), pl.all())


def _empty() -> pl.DataFrame:
    schema = {"cell": pl.String, "position": pl.Int64, "tag": pl.UInt32, "name": pl.String, "unit": pl.String}
    times = {"source_at": pl.Int64, "server_at": pl.Int64}
    return pl.DataFrame(schema={**schema, **times, "value": pl.Float64, "status": pl.UInt32})
