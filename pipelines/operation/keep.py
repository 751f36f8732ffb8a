"""How a keeper is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipelines.operation.common import LAG_MAX, disk, free_bytes, gauge
from pipelines.operation.ends import Ends
from pipelines.operation.health import Backlog, Health


class Reading(Protocol):
    """The thread that keeps, as far as it is told of."""

    @property
    def failure(self) -> BaseException | None:
        """Why it ended by itself."""

    @property
    def next_offsets(self) -> Mapping[int, int]:
        """By partition: behind the last message read."""

    @property
    def positions(self) -> Mapping[str, int]:
        """Of the last input kept, by cell."""

    def is_alive(self) -> bool:
        """Whether it runs."""


class ToldKeep:
    """A keeper that can be asked."""

    name = "keep"

    def __init__(self, data: Path, ends: Ends) -> None:
        self.keeping: Reading | None = None
        """None: it waits for where detection stands, and has not begun."""
        self._data, self._ends = data, ends
        self._backlog = Backlog(LAG_MAX)

    async def checks(self) -> Sequence[Health]:
        """Return the thread, broker, lag and disk."""
        broker, words = self._ends.broker
        return [self._reading(), Health("broker", broker, words), self._lag(), disk(self._data)]

    def _reading(self) -> Health:
        keeping = self.keeping
        if keeping is None:
            return Health("keeping", False, "it waits for a saved state of detection, to begin where that stands")
        alive = keeping.is_alive() and keeping.failure is None
        return Health("keeping", alive, f"{len(keeping.positions)} cells" if alive else f"it ended: {keeping.failure}")

    def _lag(self) -> Health:
        if self._ends.look is None or self.keeping is None:
            return Health("lag", False, "not known yet")
        taken = sum(self.keeping.next_offsets.values())
        return self._backlog.look(sum(self._lags().values()), taken, time.monotonic())

    def _lags(self) -> dict[int, int]:
        """Return how much waits behind what was read, by partition."""
        look, keeping = self._ends.look, self.keeping
        if look is None or keeping is None:
            return {}
        return {number: look.backlog(number, at) for number, at in dict(keeping.next_offsets).items()}

    async def families(self) -> Iterable[Any]:
        """Return lags and positions."""
        kept = self.keeping.positions if self.keeping is not None else {}
        lags = {(str(number),): float(lag) for number, lag in self._lags().items()}
        positions = {(cell,): float(position) for cell, position in kept.items()}
        return [
            gauge("jidoka_keep_lag_messages", "Messages that are not kept yet.", lags, ["partition"]),
            gauge("jidoka_keep_position", "Of the last input kept.", positions, ["cell"]),
            free_bytes(self._data),
        ]
