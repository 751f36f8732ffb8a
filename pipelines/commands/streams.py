"""For the data engineer: the processes of the Kafka runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import HERE, Config
from pipelines.commands.run import until_told
from pipelines.commands.topics import Kafka, kafka_settings
from pipelines.config import Configuration, load
from schemas.errors import ConfigError
from schemas.plant import Cell


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(collect)


def collect(
    config: Config = HERE,
    kafka: Kafka = "",
    cells: Annotated[
        list[str] | None, typer.Option("--cell", help="Cell id or path; may be given again. All if left out.")
    ] = None,
    recording: Annotated[
        Path | None, typer.Option("--recording", help="Send this file (CSV, CSV.gz, Parquet) instead, and end.")
    ] = None,
) -> None:
    """Collect cells into a spool on disk, and from there to telemetry.v1, until it is told to end."""
    from pipelines.collect import collect_recording, collecting_cells

    settings = kafka_settings(config, kafka)
    # A broker named directly says itself how many partitions there are; a configuration must be right.
    partitions = None if kafka else settings.partitions
    if recording is not None:
        came = collect_recording(recording, settings, partitions=partitions)
        print(f"{recording}: {came.taken_n} messages, {came.taken_samples_n} samples, {came.refused_n} refused")
        return
    configuration = load(config)
    chosen = cells_of(configuration, cells or [])

    async def go() -> None:
        async with collecting_cells(
            configuration,
            chosen,
            settings,
            partitions=partitions,
            bytes_max=settings.spool_bytes_max,
        ) as collecting:
            waiting = collecting.figures(0).unacknowledged_n
            names = ", ".join(cell.path for cell in chosen)
            print(f"collecting {names}; spool {collecting.spool.folder}, {waiting} messages waiting", flush=True)
            await asyncio.Event().wait()

    until_told(go())


def cells_of(configuration: Configuration, wanted: Sequence[str]) -> list[Cell]:
    """Return the cells of these ids or paths; of none named, all.

    Raises:
        ConfigError: one is not in plant.toml.
    """
    known = configuration.plant.cells
    for name in wanted:
        if name not in {cell.id for cell in known} | {cell.path for cell in known}:
            raise ConfigError(
                "plant.toml", "cells", f"there is no cell {name!r}", f"Name one of {', '.join(c.id for c in known)}"
            )
    return [cell for cell in known if not wanted or cell.id in wanted or cell.path in wanted]
