"""How far the sources of a cell are complete, and which of them still count.

Rows wait for the slowest source. One that nobody hears any more (its cell is read from elsewhere now, or its collector
was taken away) must not hold them up for ever: it is retired when the others have gone on for `RETIRED_US` without it,
and counts again from its next tick. A source that is lost and says so is not silent: rows wait for it.

Time is that of taking, and what one tick adds to it is bounded. So neither a clock that is put forward nor a stop of
all sources retires one, and the same input retires the same sources at the same places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.samples import Tick

RETIRED_US = 60_000_000
"""Agent time in which others tick and a source does not, until rows go on without it."""
STEP_US_MAX = 5_000_000
"""What the time from one tick of a cell to the next counts at most; sources tick each second."""


@dataclass(frozen=True, slots=True)
class Retired:
    """A source that counts no more."""

    source: str
    complete_until: int
    """As it said last, microseconds since 1970 UTC."""


class Completeness:
    """What the ticks of one cell come to."""

    def __init__(self) -> None:
        self._complete: dict[str, int] = {}
        self._silent_us: dict[str, int] = {}
        self._at_us = 0
        """Agent time of the last tick; 0 before the first."""

    @property
    def until_at(self) -> int:
        """Up to when all sources that count are complete. There must have been a tick."""
        return min(self._complete.values())

    def take(self, tick: Tick) -> int | None:
        """Take how far a source is complete; return how far it was, None if it did not count."""
        before = self._complete.get(tick.source)
        self._complete[tick.source] = max(tick.complete_until, before or tick.complete_until)
        return before

    def hear(self, at_us: int, tick: Tick) -> list[Retired]:
        """Note that a source is there; return those that are retired by it.

        Args:
            at_us: Agent time of taking; never goes back.
            tick: Of the source. While it is lost itself, nobody goes on without the others.
        """
        step_us = min(at_us - self._at_us, STEP_US_MAX) if self._at_us and tick.alive else 0
        self._at_us = at_us
        for other in self._silent_us:
            self._silent_us[other] += step_us
        self._silent_us[tick.source] = 0
        gone = sorted(source for source, us in self._silent_us.items() if us >= RETIRED_US)
        for source in gone:
            del self._silent_us[source]
        return [Retired(source, self._complete.pop(source)) for source in gone if source in self._complete]

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {
            "complete": dict(sorted(self._complete.items())),
            "silent_us": dict(sorted(self._silent_us.items())),
            "at_us": self._at_us,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self._complete, self._silent_us = dict(state["complete"]), dict(state["silent_us"])
        self._at_us = state["at_us"]
