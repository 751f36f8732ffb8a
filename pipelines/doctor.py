"""Everything that `jidoka doctor` looks at: the plant's server cell by cell, this machine, models, broker, database."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from connectors.check import Check
from connectors.opcua.checks import check_server
from pipelines.config import Configuration
from pipelines.hosting import Folders, clock_of
from pipelines.model_checks import check_models
from schemas.settings import KafkaSettings

FREE_MIN_BYTES = 1_000_000_000
"""Room for the log and its blobs, however little else is kept."""


def examine(configuration: Configuration, kafka: KafkaSettings | None) -> Iterator[tuple[str, Check]]:
    """Yield each check as it is done, with what it is about: a cell's id, `models`, `kafka`, `postgres` or `here`."""
    settings = configuration.settings
    for cell in configuration.plant.cells:
        for check in asyncio.run(check_server(cell, settings.opcua, clock_of(settings))):
            yield cell.id, check
    for check in _machine(configuration, kafka):
        yield "here", check
    for check in asyncio.run(check_models(settings.reasoners)):
        yield "models", check
    if kafka is not None:
        from connectors.kafka.checks import check_cluster

        for check in check_cluster(kafka, [cell.path for cell in configuration.plant.cells]):
            yield "kafka", check
    if settings.postgres is not None:
        from connectors.eventlog.postgres_checks import check_database

        for check in check_database(settings.postgres):
            yield "postgres", check


def _machine(configuration: Configuration, kafka: KafkaSettings | None) -> Iterator[Check]:
    """Look at the folders, and whether there is room for what they may grow to."""
    folders, settings = Folders(configuration.data), configuration.settings
    yield _folder("data folder", folders.data, FREE_MIN_BYTES)
    kept = settings.segments.keep_bytes * len(configuration.plant.cells)
    yield _folder("kept input", folders.data / "segments", kept)
    if kafka is None:
        return
    yield _folder("spool", folders.spool, kafka.spool_bytes_max)
    if settings.postgres is None:
        said = "in the data folder: all workers must run on this machine"
        yield Check("states", True, f"{folders.states.name} {said}" if folders.states.exists() else f"none yet; {said}")


def _folder(name: str, folder: Path, may_take: int) -> Check:
    """Return whether a folder can be written, or made, and what it may still take."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(name, False, f"{folder} cannot be written", f"Give {there} to the user that the agent runs as.")
    missing = max(0, may_take - _size(folder)) - shutil.disk_usage(there).free
    if missing > 0:
        remedy = f"Free {missing / 1e9:.1f} GB, or lower what jidoka.toml lets it take."
        return Check(name, False, f"{folder} may take {may_take / 1e9:.1f} GB, and there is less", remedy)
    free = shutil.disk_usage(there).free
    return Check(name, True, f"{folder} can be written; {free / 1e9:.1f} GB are free")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
