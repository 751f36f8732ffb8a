"""For the data engineer: what the agent understands of topics that the plant already has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
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
