"""What was understood of a plant's own topics, as the one ordered input of a cell. Pure: no broker, no clock.

A topic promises nothing about completeness, so ticks are careful. A partition is complete up to its newest sample, and
once it was read to its end, up to when that end was asked for; the cell up to the least of them, less `disorder_s`.
While the broker does not answer nothing new is complete: what is on the topics still comes, in time for its rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Final

from connectors.kafka.mapping import Mapped, MappedEvent
from connectors.ordering import InputOrder, Sample
from schemas.plant import Cell
from schemas.samples import Input
from schemas.streams import Stream

Place = Hashable
"""A partition of a topic."""
AHEAD_US: Final = 60_000_000
"""Agent time by which a partition may be ahead of the slowest one: rows wait for all, and what waits is in memory."""
FIRST_BACK_US: Final = 900_000_000
"""Agent time before the first word on completeness of which rows are still made; what is older only stands for the
present: a sample from years ago must not make rows of years."""
DUE_US: Final = 60_000_000
"""Agent time that may newly be complete before a tick must say so: a backlog is read faster than the seconds go by."""


def source_name(cell: Cell) -> str:
    """Return the name under which a cell's samples come from the plant's own topics."""
    return f"kafka:{cell.id}"


class StreamOrder:
    """The input of one cell from its topics."""

    def __init__(self, cell: Cell, streams: Sequence[Stream], *, epoch: int) -> None:
        """Begin with nothing.

        Args:
            cell: Whose input it is.
            streams: The cell's entries of `streams.toml`: the longest disorder and silence of them hold for all.
            epoch: Higher than at any earlier start of this source.
        """
        self._order = InputOrder(source_name(cell), epoch)
        self._disorder_us = int(max(stream.disorder_s for stream in streams) * 1e6)
        self._dead_after_s = max(stream.dead_after_s for stream in streams)
        self._until: dict[Place, int] = {}
        self._places: frozenset[Place] = frozenset()
        self._oldest_at: int | None = None
        self._heard_s: float | None = None
        self._state: int | None = None
        self.late_n = 0
        """Samples older than what a tick had called complete."""
        self.latest_us = 0
        """By how much the worst of them was."""

    @property
    def source(self) -> str:
        """Name of the source."""
        return self._order.source

    def read_from(self, places: Iterable[Place]) -> None:
        """Note which partitions are read from now on; it waits for each of them."""
        self._places = frozenset(places)
        self._until = {place: at for place, at in self._until.items() if place in self._places}

    def take(self, mapped: Mapped, *, place: Place, received_at: int, wall_s: float) -> list[Input]:
        """Take what a message came to.

        Args:
            mapped: Of this cell.
            place: Where it was.
            received_at: Agent time, microseconds since 1970 UTC.
            wall_s: Monotonic wall time.
        """
        self._heard_s = wall_s
        inputs: list[Input] = []
        for each in mapped.samples:
            if each.at <= self._order.complete_until:
                self.late_n += 1
                self.latest_us = max(self.latest_us, self._order.complete_until - each.at)
            # A clock of the plant that runs ahead must not call what is still to come complete.
            self._saw(place, min(each.at, received_at))
            inputs += self._order.add(each.tag_id, Sample(each.at, received_at, each.value, each.status))
        for event in mapped.events:
            self._saw(place, min(event.at, received_at))
            inputs += self._event(event)
        return inputs

    def complete(self, place: Place, until_at: int) -> None:
        """Note that nothing older than this is still to come from a partition, but for `disorder_s`."""
        self._until[place] = max(until_at, self._until.get(place, until_at))

    def lost(self, place: Place, *, since_at: int, now: int, reason: str) -> list[Input]:
        """Tell that messages of a partition were not read and never will be.

        Args:
            place: Where they were.
            since_at: From when on they may be, if nothing was ever read there.
            now: Agent time, microseconds since 1970 UTC.
            reason: For people.
        """
        return self._order.gap((), self._until.get(place, since_at), now, reason)

    def tick(self, *, answering: bool, wall_s: float) -> list[Input]:
        """Tell how far everything has come; nothing of it before something is known.

        Args:
            answering: Whether the broker does.
            wall_s: Monotonic wall time.
        """
        until_at, alive = self._complete_until(), answering and self.heard(wall_s)
        if self._order.complete_until:
            return self._order.tick(until_at, alive=alive)
        if not until_at:
            return self._order.flush()
        # Rows begin at the first tick: before the first sample.
        first_at = max(until_at - FIRST_BACK_US, min(until_at, (self._oldest_at or until_at) - 1))
        return [*self._order.tick(first_at, alive=alive), *self._order.tick(until_at, alive=alive)]

    @property
    def due(self) -> bool:
        """Whether so much is newly complete that a tick should say it at once."""
        return self._complete_until() - self._order.complete_until >= DUE_US

    @property
    def ahead(self) -> frozenset[Place]:
        """Partitions that are too far ahead of the slowest one."""
        if not self._places:
            return frozenset()
        slowest = min(self._until.get(place, self._order.complete_until) for place in self._places)
        return frozenset(place for place, until in self._until.items() if until - slowest > AHEAD_US)

    def heard(self, wall_s: float) -> bool:
        """Tell whether a message came within `dead_after_s`."""
        return self._heard_s is not None and wall_s - self._heard_s <= self._dead_after_s

    def _saw(self, place: Place, at: int) -> None:
        self._oldest_at = at if self._oldest_at is None else min(self._oldest_at, at)
        self.complete(place, at)

    def _complete_until(self) -> int:
        """How far all partitions are complete; 0 as long as one of them said nothing."""
        if not self._places or not self._places <= self._until.keys():
            return 0
        return max(0, min(self._until[place] for place in self._places) - self._disorder_us)

    def _event(self, event: MappedEvent) -> list[Input]:
        if event.kind != "packml.state":
            return self._order.said(event.kind, event.text, event.at)
        # Many plants write the state into every message; a change is an event, the rest is not.
        if event.state == self._state:
            return []
        self._state = event.state
        return self._order.packml(event.state, event.at)
