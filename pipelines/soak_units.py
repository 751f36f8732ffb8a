"""What a soak is made of: units of work, each done or not done, and what came of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a unit."""

    trials_n: int
    failures: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a run."""

    name: str
    """The same at every start with the same seed."""
    work: Callable[[], Outcome]


def support(module: str) -> Any:
    """Return a module of the tests. Not typed: the tests are not."""
    return import_module(f"tests.support.{module}")
