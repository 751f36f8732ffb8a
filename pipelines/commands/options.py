"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.config import load
from pipelines.hosting import Folders
from pipelines.log_place import LogPlace
from schemas.errors import ConfigError

Config = Annotated[
    Path, typer.Option("--config", help="Configuration folder (jidoka, plant, catalogue, policy, playbook .toml).")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Data folder; instead of --config where only stored facts are read.")
]
CellOption = Annotated[str, typer.Option("--cell", help="Cell id or path; may be left out where there is only one.")]
HERE = Path()


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
