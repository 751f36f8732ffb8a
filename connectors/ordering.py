"""The one order of a cell's input: batches, line events, gaps and ticks with gapless numbers. Pure: no socket or clock.

It is told what arrived and what time it is, and answers with what the cell must get next. A pending batch is always
flushed before anything that comes after its samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.samples import Gap, Input, LineEvent, SampleBatch, Tick

BATCH_MAX = 5_000
"""Samples in one batch; more make a second one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value as the log keeps it."""

    source_at: int
    """Microseconds since 1970 UTC: the source's time, else the server's, else when we got it."""
    server_at: int
    """The server's time, else when we got it."""
    value: float
    """NaN: no number; `status` says why."""
    status: int
    """Raw StatusCode, info bits included."""


class InputOrder:
    """Numbers and orders the input of one cell within one epoch."""

    def __init__(self, source: str, epoch: int) -> None:
        """Begin at seq 0.

        Args:
            source: Who collects, e.g. `opcua:cell1` or `kafka:cell1`.
            epoch: Higher than that of any earlier start of this source.
        """
        self.source, self.epoch = source, epoch
        self.complete_until = 0
        """Of the last tick; never goes back. Microseconds since 1970 UTC."""
        self._seq = 0
        self._tags: list[int] = []
        self._samples: list[Sample] = []

    def add(self, tag: int, sample: Sample) -> list[Input]:
        """Take one sample; give back a batch when it is full."""
        self._tags.append(tag)
        self._samples.append(sample)
        return self.flush() if len(self._tags) >= BATCH_MAX else []

    def flush(self) -> list[Input]:
        """Give back what is pending as one batch, or nothing."""
        if not self._tags:
            return []
        tags, samples = self._tags, self._samples
        self._tags, self._samples = [], []
        return [
            SampleBatch(
                self.source,
                self.epoch,
                self._next(),
                np.array(tags, dtype=np.uint32),
                np.array([s.source_at for s in samples], dtype=np.int64),
                np.array([s.server_at for s in samples], dtype=np.int64),
                np.array([s.value for s in samples], dtype=np.float64),
                np.array([s.status for s in samples], dtype=np.uint32),
            )
        ]

    def packml(self, number: int, source_at: int) -> list[Input]:
        """Tell the PackML state."""
        return [*self.flush(), LineEvent(self.source, self.epoch, self._next(), "packml.state", source_at, number)]

    def said(self, kind: Literal["changeover", "text"], text: str, source_at: int) -> list[Input]:
        """Tell what the line said in words."""
        return [*self.flush(), LineEvent(self.source, self.epoch, self._next(), kind, source_at, 0, text)]

    def gap(self, tags: Iterable[int], from_at: int, until_at: int, reason: str) -> list[Input]:
        """Tell that samples of these tags (none named: of all) are lost."""
        until_at = max(from_at, until_at)
        return [*self.flush(), Gap(self.source, self.epoch, self._next(), tuple(tags), from_at, until_at, reason)]

    def tick(self, complete_until: int, *, alive: bool, stale: Iterable[int] = ()) -> list[Input]:
        """Tell how far everything has been delivered; an earlier word is never taken back."""
        self.complete_until = max(self.complete_until, complete_until)
        batch = self.flush()
        return [*batch, Tick(self.source, self.epoch, self._next(), self.complete_until, alive, tuple(stale))]

    def _next(self) -> int:
        self._seq += 1
        return self._seq - 1
