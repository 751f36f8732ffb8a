"""Options that several commands share."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.config import Configuration, load
from pipelines.hosting import Folders
from pipelines.log_lines import speak
from pipelines.log_place import LogPlace
from schemas.errors import ConfigError
from schemas.plant import Cell


class LogForm(StrEnum):
    """How the process log is written."""

    TEXT = "text"
    JSON = "json"


Config = Annotated[
    Path, typer.Option("--config", help="Configuration folder (jidoka, plant, catalogue, policy, playbook .toml).")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Data folder; instead of --config where only stored facts are read.")
]
CellOption = Annotated[str, typer.Option("--cell", help="Cell id or path; may be left out where there is only one.")]
Http = Annotated[
    int | None,
    typer.Option("--http", min=0, max=65535, help="Port for /metrics, /healthz and /readyz; goes over http.port."),
]
Log = Annotated[LogForm, typer.Option("--log", help="How the process log is written: lines of text, or of JSON.")]
HERE = Path()


def prepared(config: Path, http: int | None, log: LogForm, process: str) -> Configuration:
    """Return the configuration of a process that runs for long, which logs as asked from now on.

    Raises:
        ConfigError: it cannot be used.
    """
    speak(log.value, process=process)
    configuration = load(config)
    if http is None:
        return configuration
    settings = configuration.settings
    told = settings.model_copy(update={"http": settings.http.model_copy(update={"port": http})})
    return replace(configuration, settings=told)


def the_cell(configuration: Configuration, name: str) -> Cell:
    """Return the cell of this id or path; without a name the only one.

    Raises:
        ConfigError: there is none, or more than one and no name.
    """
    cells = configuration.plant.cells
    named = [cell for cell in cells if name in (cell.id, cell.path)] if name else list(cells)
    if len(named) != 1:
        known = ", ".join(cell.id for cell in cells)
        problem = f"there is no cell {name!r}" if name else f"there are {len(cells)} cells"
        raise ConfigError("plant.toml", "cells", problem, f"Name one with --cell: {known}")
    return named[0]


def folders(config: Path, data: Path | None) -> Folders:
    """Return the data folders of a configuration, or of a data folder (a demo's too) named directly.

    Raises:
        ConfigError: neither leads to one.
    """
    return log_place(config, data).folders


def log_place(config: Path, data: Path | None) -> LogPlace:
    """Return where the log is: of a configuration as it says, of a data folder in it.

    Raises:
        ConfigError: neither leads to one.
    """
    if data is not None:
        return LogPlace(Folders(data / "agent" if (data / "agent" / "log").is_dir() else data))
    try:
        configuration = load(config)
        return LogPlace(Folders(configuration.data), configuration.settings.postgres)
    except ConfigError as error:
        if error.problem != "it is missing":
            raise
        remedy = "Point --config to the configuration folder, or --data to the data folder"
        raise ConfigError(error.file, error.field, error.problem, remedy) from error
