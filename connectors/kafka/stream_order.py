"""What was understood of a plant's own topics, as the one ordered input of a cell. Pure: no broker, no clock.

A topic promises nothing about completeness, so ticks are careful: complete is what is older than the newest sample by
`disorder_s`. While nothing comes, nothing new is called complete, until the source counts as lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectors.kafka.mapping import Mapped, MappedEvent
from connectors.ordering import InputOrder, Sample
from schemas.plant import Cell
from schemas.samples import Input
from schemas.streams import Stream


class StreamOrder:
    """The input of one cell from its topics."""

    def __init__(self, cell: Cell, streams: Sequence[Stream], *, epoch: int) -> None:
        """Begin with nothing.

        Args:
            cell: Whose input it is.
            streams: The cell's entries of `streams.toml`: the longest disorder and silence of them hold for all.
            epoch: Higher than at any earlier start of this source.
        """
        self._order = InputOrder(f"kafka:{cell.id}", epoch)
        self._disorder_us = int(max(stream.disorder_s for stream in streams) * 1e6)
        self._dead_after_s = max(stream.dead_after_s for stream in streams)
        self._newest_at = 0
        self._heard_s: float | None = None
        self._state: int | None = None
        self.late_n = 0
        """Samples older than what a tick had called complete."""

    def take(self, mapped: Mapped, *, received_at: int, wall_s: float) -> list[Input]:
        """Take what a message came to.

        Args:
            mapped: Of this cell.
            received_at: Agent time, microseconds since 1970 UTC.
            wall_s: Monotonic wall time.
        """
        self._heard_s = wall_s
        inputs: list[Input] = []
        for each in mapped.samples:
            self.late_n += each.at <= self._order.complete_until
            # A clock of the plant that runs ahead must not call what is still to come complete.
            self._newest_at = max(self._newest_at, min(each.at, received_at))
            inputs += self._order.add(each.tag_id, Sample(each.at, received_at, each.value, each.status))
        for event in mapped.events:
            self._newest_at = max(self._newest_at, min(event.at, received_at))
            inputs += self._event(event)
        return inputs

    def tick(self, now: int, *, wall_s: float) -> list[Input]:
        """Tell, each second of agent time, how far everything has come.

        Args:
            now: Agent time, microseconds since 1970 UTC.
            wall_s: Monotonic wall time.
        """
        if self.alive(wall_s):
            return self._order.tick(self._newest_at - self._disorder_us, alive=True)
        return self._order.tick(now - self._disorder_us, alive=False)

    def alive(self, wall_s: float) -> bool:
        """Tell whether a message came within `dead_after_s`."""
        return self._heard_s is not None and wall_s - self._heard_s <= self._dead_after_s

    def _event(self, event: MappedEvent) -> list[Input]:
        if event.kind != "packml.state":
            return self._order.said(event.kind, event.text, event.at)
        # Many plants write the state into every message; a change is an event, the rest is not.
        if event.state == self._state:
            return []
        self._state = event.state
        return self._order.packml(event.state, event.at)
