"""What a process says of itself: checks with a name each, and how what waits for it is judged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LOOK_S = 5.0
"""Wall time between the two looks by which a backlog is said to become smaller."""
STUCK_S = 10.0
"""Wall time for which something may wait while nothing is taken."""


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


class Backlog:
    """Whether what waits is bounded, or becomes less; and whether any of it is taken at all."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._before: tuple[int, float] | None = None
        self._falling = True
        self._standing: tuple[int, float] | None = None

    def look(self, waiting: int, taken: int, now_s: float) -> Health:
        """Take a look.

        Args:
            waiting: How many wait.
            taken: Up to where they were taken; any number that grows with it.
            now_s: Wall time, any origin.

        >>> backlog = Backlog(10)
        >>> [backlog.look(n, 7 * int(at), at).ok for n, at in ((50, 0.0), (40, 5.0), (40, 10.0), (60, 15.0), (9, 16.0))]
        [True, True, False, False, True]
        >>> [backlog.look(n, 7, at).detail for n, at in ((2, 20.0), (2, 25.0), (2, 31.0), (0, 32.0))]
        ['2 wait', '2 wait', '2 wait, and none was taken for 11 s', '0 wait']
        """
        if self._before is None:
            self._before = (waiting, now_s)
        elif now_s - self._before[1] >= LOOK_S:
            self._falling = waiting < self._before[0]
            self._before = (waiting, now_s)
        if not waiting or self._standing is None or self._standing[0] != taken:
            self._standing = (taken, now_s) if waiting else None
        stuck_s = now_s - self._standing[1] if self._standing is not None else 0.0
        said = f"{waiting} wait"
        if stuck_s > STUCK_S:
            return Health("lag", False, f"{said}, and none was taken for {stuck_s:.0f} s")
        ok = waiting <= self._bound or self._falling
        return Health("lag", ok, said if ok else f"{said}, and they do not become fewer")
