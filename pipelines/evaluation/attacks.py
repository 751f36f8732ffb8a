"""The table of attacks: text that somebody could put where a plant has a say. See `attacks.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pydantic import Field

from schemas.plant import Strict


class Group(Strict):
    """Attacks of one kind."""

    name: str
    """For figures and messages."""
    about: str
    """What they try."""
    texts: tuple[str, ...] = Field(min_length=1)
    """As they would stand in the field."""
    repeat: int = Field(default=1, ge=1, le=100_000)
    """How often each is written one behind the other."""


class Table(Strict):
    """The whole of `attacks.toml`."""

    version: int = Field(ge=1, le=1)
    """Of the format."""
    groups: tuple[Group, ...]
    """By kind."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One text."""

    group: str
    text: str


@cache
def attacks() -> tuple[Attack, ...]:
    """Return every attack of the packaged table, in its order."""
    text = resources.files("pipelines.evaluation").joinpath("attacks.toml").read_text(encoding="utf-8")
    table = Table.model_validate(tomllib.loads(text))
    return tuple(Attack(group.name, each * group.repeat) for group in table.groups for each in group.texts)
