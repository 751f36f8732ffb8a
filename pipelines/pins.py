"""Which kept input an incident still needs: for as long as the log lives, it can be re-run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from schemas.facts import AnyFact, IncidentClosed, IncidentOpened
from schemas.records import Recorded

STILL_OPEN = 1 << 62


class Pins:
    """Ranges of input positions, one per incident."""

    def __init__(self) -> None:
        self._ranges: dict[str, tuple[int, int]] = {}

    def __call__(self) -> Iterable[tuple[int, int]]:
        """Return the ranges, first and last position."""
        return list(self._ranges.values())

    async def recall(self, records: AsyncIterator[Recorded]) -> None:
        """Learn from the log which incidents there were."""
        async for record in records:
            if record.type in ("incident.opened/1", "incident.closed/1"):
                self.see([record.fact], record.inputs.get("input", 0))

    def see(self, facts: Sequence[AnyFact], position: int) -> None:
        """Take facts that were appended when the input stood at `position`."""
        for fact in facts:
            if isinstance(fact, IncidentOpened):
                self._ranges[fact.incident_id] = (position, STILL_OPEN)
            elif isinstance(fact, IncidentClosed) and fact.incident_id in self._ranges:
                self._ranges[fact.incident_id] = (self._ranges[fact.incident_id][0], position)

    def follow(self, position: Callable[[], int]) -> Callable[[Sequence[AnyFact]], None]:
        """Return a listener for a service whose input position is `position()`."""
        return lambda facts: self.see(facts, position())
