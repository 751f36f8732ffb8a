"""The demo's `plant.toml`, as it is packaged beside the simulated plant."""

from __future__ import annotations

import tomllib
from importlib import resources

from pydantic import ValidationError

from schemas.errors import ConfigError
from schemas.plant import Cell, Plant


def demo_cell() -> Cell:
    """Return the one cell of the packaged `plant.toml`.

    Raises:
        ConfigError: the file is not what it should be.
    """
    text = resources.files("connectors.plant").joinpath("config/plant.toml").read_text(encoding="utf-8")
    try:
        return Plant.model_validate(tomllib.loads(text)).cells[0]
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(
            "connectors/plant/config/plant.toml", "cells", str(error), "Restore the packaged file."
        ) from error
