"""Puts the messages of one cell back into the order in which their sources gave them. Pure; its memory is a value.

A topic delivers at least once, and a producer that began again may send in another order. Each source numbers what it
sends: (source, epoch, seq). Here a repeated number is dropped, an early one waits for those before it, and what never
comes becomes an explicit `Gap`. Whoever reads the same partition from the same state comes to the same positions and
times, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.samples import AGENT, WATCH, Gap, Input, Kept, Tick

WAIT_MAX = 64
"""Messages of one source that wait for one before them."""
WAIT_US = 2_000_000
"""How much later (agent time of taking) another message of its source may be while one waits."""


@dataclass(slots=True)
class Waiting:
    """A message that came before its turn."""

    at_us: int
    input: Input


@dataclass(slots=True)
class SourceOrder:
    """How far one source has been taken."""

    epoch: int
    next_seq: int
    complete_until: int = 0
    """Of its last tick, microseconds since 1970 UTC."""
    waiting: dict[int, Waiting] = field(default_factory=dict)
    """By seq."""


@dataclass(slots=True)
class Counts:
    """What was put right; for metrics."""

    repeated: int = 0
    reordered: int = 0
    missing: int = 0


class Sequence:
    """The order of one cell."""

    def __init__(self, position: int = 0) -> None:
        """Begin behind `position`."""
        self.position = position
        """Of the last input given out."""
        self.at_us = 0
        """Agent time of the last input given out; never goes back."""
        self.sources: dict[str, SourceOrder] = {}
        self.counts = Counts()

    def take(self, at_us: int, message: Input) -> list[Kept]:
        """Take the next message of the partition; return what has its turn now, in order."""
        order = self.sources.get(message.source)
        if order is None:
            order = self.sources[message.source] = SourceOrder(message.epoch, message.seq)
        given = self._overdue(message.source, order, at_us)
        if message.epoch > order.epoch:
            given += self._give_up_waiting(message.source, order)
            self.sources[message.source] = order = SourceOrder(message.epoch, 0, order.complete_until)
        if message.epoch < order.epoch or message.seq < order.next_seq or message.seq in order.waiting:
            self.counts.repeated += 1
            return given
        order.waiting[message.seq] = Waiting(at_us, message)
        if message.seq > order.next_seq:
            self.counts.reordered += 1
        given += self._in_turn(order)
        if len(order.waiting) > WAIT_MAX:
            given += self._skip(message.source, order)
        return given

    def _overdue(self, source: str, order: SourceOrder, at_us: int) -> list[Kept]:
        given: list[Kept] = []
        while order.waiting and at_us - min(w.at_us for w in order.waiting.values()) > WAIT_US:
            given += self._skip(source, order)
        return given

    def _in_turn(self, order: SourceOrder) -> list[Kept]:
        given = []
        while (waiting := order.waiting.pop(order.next_seq, None)) is not None:
            order.next_seq += 1
            if isinstance(waiting.input, Tick):
                order.complete_until = max(order.complete_until, waiting.input.complete_until)
            given.append(self._give(waiting.at_us, waiting.input))
        return given

    def _skip(self, source: str, order: SourceOrder) -> list[Kept]:
        """Tell what is missing before the first that waits, and go on from there."""
        first = min(order.waiting)
        missed, order.next_seq = order.next_seq, first
        self.counts.missing += first - missed
        if source in (AGENT, WATCH):  # They carry no samples, and what they ask for is asked again.
            return self._in_turn(order)
        at_us = order.waiting[first].at_us
        from_at = order.complete_until or at_us
        reason = f"messages {missed} to {first - 1} of epoch {order.epoch} never came"
        gap = Gap(source, order.epoch, first - 1, (), from_at, max(from_at, at_us), reason)
        return [self._give(at_us, gap), *self._in_turn(order)]

    def _give_up_waiting(self, source: str, order: SourceOrder) -> list[Kept]:
        given: list[Kept] = []
        while order.waiting:
            given += self._skip(source, order)
        return given

    def _give(self, at_us: int, message: Input) -> Kept:
        self.position += 1
        self.at_us = max(self.at_us, at_us)
        return Kept(self.position, self.at_us, message)
