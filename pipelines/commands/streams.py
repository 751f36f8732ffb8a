"""For the data engineer: the processes of the Kafka runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import HERE, Config, Http, Log, LogForm, prepared
from pipelines.commands.run import parts_of, until_told
from pipelines.commands.topics import Kafka, kafka_settings
from pipelines.config import Configuration
from pipelines.hosting import Folders, clock_of
from pipelines.log_lines import announce
from schemas.errors import ConfigError
from schemas.plant import Cell


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (collect, detect, decide, keep, up):
        app.command()(command)


def collect(
    config: Config = HERE,
    kafka: Kafka = "",
    cells: Annotated[
        list[str] | None, typer.Option("--cell", help="Cell id or path; may be given again. All if left out.")
    ] = None,
    recording: Annotated[
        Path | None, typer.Option("--recording", help="Send this file (CSV, CSV.gz, Parquet) instead, and end.")
    ] = None,
    http: Http = None,
    log: Log = LogForm.TEXT,
) -> None:
    """Collect cells into a spool on disk, and from there to telemetry.v1, until it is told to end.

    Cells that streams.toml has entries for are read from the plant's own topics, the others over OPC UA.
    """
    from pipelines.collect import collect_recording, collecting_cells
    from pipelines.operation.collect import ToldCollect
    from pipelines.operation.server import telling

    settings = kafka_settings(config, kafka)
    # A broker named directly says itself how many partitions there are; a configuration must be right.
    partitions = None if kafka else settings.partitions
    if recording is not None:
        came = collect_recording(recording, settings, partitions=partitions)
        print(f"{recording}: {came.taken_n} messages, {came.taken_samples_n} samples, {came.refused_n} refused")
        return
    configuration = prepared(config, http, log, "collect")
    chosen = cells_of(configuration, cells or [])

    async def go() -> None:
        opened = collecting_cells(
            configuration,
            chosen,
            settings,
            partitions=partitions,
            bytes_max=settings.spool_bytes_max,
        )
        async with opened as collecting:
            told = ToldCollect(configuration, collecting, clock_of(configuration.settings))
            async with telling(configuration.settings.http, told):
                waiting = collecting.figures(0).unacknowledged_n
                from_topics = {path: f" from {', '.join(each.topics)}" for path, each in collecting.topics.items()}
                names = ", ".join(cell.path + from_topics.get(cell.path, "") for cell in chosen)
                announce(f"collecting {names}; spool {collecting.spool.folder}, {waiting} messages waiting")
                await asyncio.Event().wait()

    until_told(go())


def detect(config: Config = HERE, kafka: Kafka = "", http: Http = None, log: Log = LogForm.TEXT) -> None:
    """Run a detection worker: from telemetry.v1 to anomalies.v1. Several share the cells."""
    from pipelines.detecting import detecting

    configuration = prepared(config, http, log, "detect")
    until_told(detecting(configuration, kafka_settings(config, kafka)))


def decide(config: Config = HERE, kafka: Kafka = "", http: Http = None, log: Log = LogForm.TEXT) -> None:
    """Run the decision service: from anomalies.v1 to the event log and the robots."""
    from pipelines.deciding import deciding, until_failure

    configuration = prepared(config, http, log, "decide")
    settings = kafka_settings(config, kafka)

    async def go() -> None:
        async with deciding(configuration, settings, parts_of(configuration)) as running:
            announce(f"deciding; operator socket {Folders(configuration.data).socket}")
            await until_failure(running)

    until_told(go())


def keep(config: Config = HERE, kafka: Kafka = "", http: Http = None, log: Log = LogForm.TEXT) -> None:
    """Keep the cells' input from telemetry.v1 in segments, for replay."""
    from pipelines.keeping import keeping

    configuration = prepared(config, http, log, "keep")
    until_told(keeping(configuration, kafka_settings(config, kafka)))


def up(
    config: Config = HERE,
    kafka: Kafka = "",
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Detection workers.")] = 1,
    http: Annotated[
        int | None,
        typer.Option("--http", min=0, max=65000, help="First port for /metrics, /healthz, /readyz: one a process."),
    ] = None,
    log: Log = LogForm.TEXT,
) -> None:
    """Run collector, detection, decisions and keeper on this machine, and start again whichever ends."""
    from connectors.kafka.admin import apply_topics
    from connectors.kafka.connection import check_reachable
    from pipelines.up import Supervisor, children_of

    configuration = prepared(config, http, log, "up")
    settings = kafka_settings(config, kafka)
    check_reachable(settings)
    for difference in apply_topics(settings).left:
        if difference.what == "partitions":  # A worker would put observations where nobody looks for them.
            raise ConfigError("jidoka.toml", "kafka.partitions", str(difference), difference.remedy)
        announce(str(difference))

    async def go() -> None:
        children = children_of(config, kafka, workers=workers, http=configuration.settings.http.port, log=log.value)
        for child in children:
            if child.port:
                announce(f"{child.name} tells how it is on port {child.port}")
        supervisor = Supervisor(children, announce, forward=partial(print, flush=True) if log is LogForm.JSON else None)
        async with supervisor.running():
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
