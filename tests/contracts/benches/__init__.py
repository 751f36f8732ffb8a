"""What stands at the other end of each robot that the contract suite tries: a PLC of the simulated cell.

One module a kind of `ROBOTS`, with the kind's name, and `direct` for the robot of simulations. In each,
`stands(folder)` runs what all tests of the kind share, and `connected(standing, folder)` gives a robot that is
connected to a cell that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from connectors.robots import ROBOTS

KINDS = ("direct", *sorted(ROBOTS))


def bench(kind: str) -> Any:
    """Return the bench of a kind; without one, a kind cannot be in the table."""
    return import_module(f"tests.contracts.benches.{kind}")


@contextmanager
def nothing(folder: Path) -> Iterator[None]:
    """Stand for nothing: each test has its own other end."""
    yield None
