<<<<<<< HEAD
"""For the data engineer: what the agent understands of topics that the plant already has."""

from __future__ import annotations

=======
"""For the data engineer: the processes of the Kafka runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
>>>>>>> broker
from pathlib import Path
from typing import Annotated

import typer
<<<<<<< HEAD
from rich.console import Console
from rich.table import Table

from connectors.kafka.mapping import MappedSample
from pipelines.commands.options import HERE, Config
from pipelines.commands.topics import Kafka, kafka_settings
from pipelines.config import load
from pipelines.log_view import clock_text
from pipelines.streams import Message, Row, Understood, load_streams, read_messages, understand
from schemas.line import state_name
from schemas.settings import KafkaSettings

app = typer.Typer(help="A plant's own JSON topics: how they are understood.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `check` a command of its own, though it is the only one yet."""


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="Messages, one JSON a line, instead of a broker; see docs/kafka.md.")
    ] = None,
    config: Config = HERE,
    kafka: Kafka = "",
    last: Annotated[int, typer.Option("--last", min=1, max=100_000, help="How many messages of each topic.")] = 20,
) -> None:
    """Show what streams.toml makes of the last messages: tag, time, value, unit, or the reason why not."""
    configuration = load(config)
    mappings = load_streams(configuration)
    topics = list(dict.fromkeys(mapping.stream.topic for mapping in mappings))
    if file is not None:
        messages = read_messages(file, topics, last)
    else:
        messages = _from_broker(kafka_settings(config, kafka), topics, last)
    found = understand(mappings, messages)
    Console().print(_table(found))
    _summary(found)
    if not found.clean:
        raise typer.Exit(1)


def _from_broker(settings: KafkaSettings, topics: list[str], last: int) -> list[Message]:
    from connectors.kafka.tail import last_messages

    tailed = last_messages(settings, topics, last)
    return [
        Message(f"{each.topic} {each.partition}/{each.offset}", each.topic, each.key, each.value) for each in tailed
    ]


def _table(found: Understood) -> Table:
    table = Table(title="understood", title_justify="left")
    for column in ("message", "cell", "tag or event", "time (UTC)", "value", "unit"):
        table.add_column(column, overflow="fold")
    for row in found.rows:
        table.add_row(row.place, row.cell, *_cells(row))
    return table


def _cells(row: Row) -> tuple[str, str, str, str]:
    if row.found is None:
        return f"■ {row.reason}", "", "", ""
    if isinstance(row.found, MappedSample):
        status = "" if row.found.status == 0 else f" ({row.found.status:#010x})"
        return row.found.tag, clock_text(row.found.at), f"{row.found.value:g}{status}", row.found.unit
    said = state_name(row.found.state) if row.found.kind == "packml.state" else row.found.text
    return row.found.kind, clock_text(row.found.at), said, ""


def _summary(found: Understood) -> None:
    print(
        f"{found.messages_n} messages: {found.used_n} used, {found.refused_n} not understood, {found.not_ours_n} not "
        f"ours; {found.samples.total()} samples of {len(found.samples)} tags, {found.events_n} events, "
        f"{found.problems_n} problems beside"
    )
    if found.silent:
        print(f"mapped but not seen: {', '.join(found.silent)}")
    if not found.used_n:
        print("nothing was understood: is it the right topic, and are there messages?")
=======

from pipelines.commands.options import HERE, Config
from pipelines.commands.run import parts_of, until_told
from pipelines.config import Configuration, load
from pipelines.hosting import Folders
from schemas.errors import ConfigError
from schemas.plant import Cell
from schemas.settings import KafkaSettings

Kafka = Annotated[str, typer.Option("--kafka", help="Broker to begin with, HOST:PORT; goes over jidoka.toml.")]


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
) -> None:
    """Collect cells into a spool on disk, and from there to telemetry.v1, until it is told to end."""
    from connectors.kafka.connection import client_arguments
    from pipelines.collect import collect_recording, collecting_cells

    if recording is not None:
        settings, known = (_by_option(kafka), False) if kafka else (kafka_of(load(config), ""), True)
        partitions = settings.partitions if known else None
        came = collect_recording(recording, client_arguments(settings), partitions=partitions)
        print(f"{recording}: {came.taken_n} messages, {came.taken_samples_n} samples, {came.refused_n} refused")
        return
    configuration = load(config)
    settings = kafka_of(configuration, kafka)
    partitions = settings.partitions if configuration.settings.kafka is not None else None
    chosen = cells_of(configuration, cells or [])

    async def go() -> None:
        async with collecting_cells(
            configuration,
            chosen,
            client_arguments(settings),
            partitions=partitions,
            bytes_max=settings.spool_bytes_max,
        ) as collecting:
            waiting = collecting.figures(0).unacknowledged_n
            names = ", ".join(cell.path for cell in chosen)
            print(f"collecting {names}; spool {collecting.spool.folder}, {waiting} messages waiting", flush=True)
            await asyncio.Event().wait()

    until_told(go())


def detect(config: Config = HERE, kafka: Kafka = "") -> None:
    """Run a detection worker: from telemetry.v1 to anomalies.v1. Several share the cells."""
    from pipelines.detecting import detecting

    configuration = load(config)
    until_told(detecting(configuration, kafka_of(configuration, kafka)))


def decide(config: Config = HERE, kafka: Kafka = "") -> None:
    """Run the decision service: from anomalies.v1 to the event log and the robots."""
    from pipelines.deciding import deciding, until_failure

    configuration = load(config)
    settings = kafka_of(configuration, kafka)

    async def go() -> None:
        async with deciding(configuration, settings, parts_of(configuration)) as running:
            print(f"deciding; operator socket {Folders(configuration.data).socket}", flush=True)
            await until_failure(running)

    until_told(go())


def keep(config: Config = HERE, kafka: Kafka = "") -> None:
    """Keep the cells' input from telemetry.v1 in segments, for replay."""
    from pipelines.keeping import keeping

    configuration = load(config)
    until_told(keeping(configuration, kafka_of(configuration, kafka)))


def up(
    config: Config = HERE,
    kafka: Kafka = "",
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Detection workers.")] = 1,
) -> None:
    """Run collector, detection and decisions on this machine, and start again whichever ends."""
    from connectors.kafka.admin import apply_topics
    from connectors.kafka.connection import check_reachable
    from pipelines.up import Supervisor, children_of

    configuration = load(config)
    settings = kafka_of(configuration, kafka)
    check_reachable(settings)
    apply_topics(settings)

    async def go() -> None:
        supervisor = Supervisor(children_of(config, kafka, workers=workers), lambda line: print(line, flush=True))
        async with supervisor.running():
            await asyncio.Event().wait()

    until_told(go())


def kafka_of(configuration: Configuration, kafka: str) -> KafkaSettings:
    """Return the settings of the broker, with the address of the command line.

    Raises:
        ConfigError: neither says where a broker is.
    """
    settings = configuration.settings.kafka
    if settings is None and not kafka:
        raise ConfigError(
            "jidoka.toml", "kafka", "it is missing", 'Add [kafka] with bootstrap = ["HOST:PORT"], or give --kafka'
        )
    if settings is None:
        return _by_option(kafka)
    return settings.model_copy(update={"bootstrap": (kafka,)}) if kafka else settings


def _by_option(kafka: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=(kafka,))


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
>>>>>>> broker
