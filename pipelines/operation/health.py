"""What a process says of itself: checks with a name each, and whether a backlog is one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LOOK_S = 5.0
"""Wall time between the two looks by which a backlog is said to become smaller."""


@dataclass(frozen=True, slots=True)
class Health:
    """One line of an answer."""

    name: str
    ok: bool
    detail: str


class Told(Protocol):
    """A process that can be asked. Everything is asked on its event loop."""

    name: str
    """`collect`, `detect`, `decide`, `keep` or `run`."""

    async def checks(self) -> Sequence[Health]:
        """Return what must hold for it to do its work."""

    async def families(self) -> Iterable[Any]:
        """Return metric families of prometheus_client."""


class Trend:
    """Whether a backlog is bounded, or becomes smaller."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._before: tuple[int, float] | None = None
        self._falling = True

    def well(self, backlog: int, now_s: float) -> bool:
        """Take a look.

        Args:
            backlog: How much waits.
            now_s: Wall time, any origin.

        >>> trend = Trend(10)
        >>> [trend.well(n, at) for n, at in ((50, 0.0), (40, 5.0), (40, 10.0), (60, 15.0), (9, 16.0))]
        [True, True, False, False, True]
        """
        if self._before is None:
            self._before = (backlog, now_s)
        elif now_s - self._before[1] >= LOOK_S:
            self._falling = backlog < self._before[0]
            self._before = (backlog, now_s)
        return backlog <= self._bound or self._falling
