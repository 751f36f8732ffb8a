"""For whoever runs the broker: make its topics, compare them with what they must be, write its access list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import HERE, Config
from pipelines.config import load, parse
from schemas.access import AccessTable, rights
from schemas.errors import ConfigError
from schemas.settings import KafkaSettings

app = typer.Typer(help="Kafka's topics: made beforehand, compared, and who may use them.", no_args_is_help=True)

Kafka = Annotated[
    str, typer.Option("--kafka", help="Broker to begin with, HOST:PORT; goes over kafka.bootstrap in jidoka.toml.")
]


def kafka_settings(config: Path, kafka: str) -> KafkaSettings:
    """Return the settings of a configuration's broker, with the address of the command line in place of its own.

    Raises:
        ConfigError: the configuration has none, and none is named.
    """
    if not kafka:
        settings = load(config).settings.kafka
        if settings is None:
            raise ConfigError("jidoka.toml", "kafka", "it is missing", "Add [kafka] with bootstrap, or give --kafka")
        return settings
    if not kafka.rpartition(":")[2].isdigit():
        raise typer.BadParameter(f"{kafka!r}: write HOST:PORT")
    named = tuple(kafka.split(","))
    configured = load(config).settings.kafka if (config / "jidoka.toml").exists() else None
    return KafkaSettings(bootstrap=named) if configured is None else configured.model_copy(update={"bootstrap": named})


@app.command()
def apply(config: Config = HERE, kafka: Kafka = "") -> None:
    """Create the topics that are missing and mend their settings. Never changes how many partitions there are."""
    from connectors.kafka.admin import apply_topics

    done = apply_topics(kafka_settings(config, kafka))
    for name in done.created:
        print(f"created  {name}")
    for each in done.changed:
        print(f"changed  {each.topic}: {each.what} {each.found} -> {each.wanted}")
    for each in done.left:
        print(f"MEND     {each}")
    if not (done.created or done.changed or done.left):
        print("all topics are as they must be")
    if done.left:
        raise typer.Exit(1)


@app.command()
def check(config: Config = HERE, kafka: Kafka = "") -> None:
    """Tell where the topics are not as they must be, and what to do. Changes nothing; 1 if there is anything."""
    from connectors.kafka.admin import check_topics

    differences = check_topics(kafka_settings(config, kafka))
    for each in differences:
        print(f"MEND  {each}")
    if differences:
        raise typer.Exit(1)
    print("all topics are as they must be")


@app.command()
def grant(
    table: Annotated[Path, typer.Argument(help="Who may do what: deploy/kafka/acls.toml, or your own.")],
    config: Config = HERE,
    kafka: Kafka = "",
) -> None:
    """Write the rights of each process into the broker's access list, and name those that are more than needed."""
    from connectors.kafka.admin import grant as grant_rights

    granted, besides = grant_rights(kafka_settings(config, kafka), rights(read_access(table)))
    for right in granted:
        print(f"granted  {right}")
    for right in besides:
        print(f"MORE     {right}: not in {table.name}. Take it away if nothing else needs it.")
    if not (granted or besides):
        print("the access list is as it must be")


def read_access(path: Path) -> AccessTable:
    """Read an access table.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
        raise ConfigError(str(path), "(file)", problem, "Name deploy/kafka/acls.toml, or your own") from error
    return parse(path.name, {path.name: content}, AccessTable)
