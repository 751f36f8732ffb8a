"""All rows of a cell: its input dealt out to the groups, and the watermark that closes them.

A cell with several sources closes its rows by the slowest of them, and holds nothing while any of them is lost. One
that is silent for long is retired, and nothing that it gave is held any more (`pipelines.features.completeness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.columns import Columns
from pipelines.features.completeness import Completeness, Retired
from pipelines.features.packed import Counts, Floats, Mask
from pipelines.features.row import Row
from pipelines.features.rows import GridRows, LostSpans, TriggerRows
from schemas.plant import Cell
from schemas.samples import Gap, SampleBatch, Tick, is_good

DEALT_MAX = 256
"""Orders of tags that are remembered, so that 100,000 tags in batches of 1,000 have room."""


@dataclass(frozen=True, slots=True, eq=False)
class Dealt:
    """Where the samples of a batch belong. It follows from their tags alone."""

    known: Mask | None
    """Which of them are tags of the cell; None: all."""
    low: Floats
    high: Floats
    """What is believed, of the known ones."""
    groups: tuple[tuple[int, Counts, Counts | None], ...]
    """(group, slots, which of the known samples; None for all)."""


class CellRows:
    """The row builders of one cell. The same rows for any split of the samples into batches."""

    def __init__(self, cell: Cell) -> None:
        self.columns = tuple(Columns.of(cell, group) for group in cell.groups)
        self.builders = tuple(GridRows(c) if c.group.trigger is None else TriggerRows(c) for c in self.columns)
        self.unknown = 0
        """Samples of tags that the cell does not have."""
        self._lateness_us = int(cell.lateness_s * 1e6)
        self._lost = LostSpans()
        self._complete = Completeness()
        self._arrivals = 0
        self._last_arrival: dict[str, int] = {}
        """Number of the last sample of each source."""
        measured = [(t.id, g, s) for g, c in enumerate(self.columns) for s, t in enumerate(c.tags) if t.minus is None]
        self._dealt: dict[bytes, Dealt] = {}
        self._where = {tag_id: (g, s) for tag_id, g, s in measured}
        measured.sort()
        self._ids = np.array([tag_id for tag_id, _, _ in measured], dtype=np.uint32)
        self._group = np.array([g for _, g, _ in measured], dtype=np.int64)
        self._slot = np.array([s for _, _, s in measured], dtype=np.int64)
        self._low = np.array([self.columns[g].low[s] for _, g, s in measured])
        self._high = np.array([self.columns[g].high[s] for _, g, s in measured])

    @property
    def late(self) -> int:
        """Samples that came after their row had closed."""
        return sum(int(builder.late.sum()) for builder in self.builders)

    def take(self, batch: SampleBatch) -> None:
        """Keep the samples of a batch."""
        if not len(batch):
            return
        tag, at, value, status = batch.tag, batch.source_at, batch.value, batch.status
        arrival = np.arange(self._arrivals + 1, self._arrivals + 1 + len(tag), dtype=np.int64)
        self._arrivals += len(tag)
        self._last_arrival[batch.source] = self._arrivals
        dealt = self._deal(tag)
        if dealt.known is not None:
            self.unknown += len(tag) - len(dealt.low)
            known = dealt.known
            at, value, status, arrival = at[known], value[known], status[known], arrival[known]
        # Written as a closed range, so that NaN and infinities are not good either.
        good = (dealt.low <= value) & (value <= dealt.high)
        if np.count_nonzero(status):
            good &= is_good(status)
        for g, slot, mine in dealt.groups:
            if mine is None:
                self.builders[g].take(slot, at, arrival, value, good)
            else:
                self.builders[g].take(slot, at[mine], arrival[mine], value[mine], good[mine])

    def _deal(self, tag: NDArray[np.uint32]) -> Dealt:
        """Find out where samples of these tags belong: collectors send the same tags in the same order often."""
        key = tag.tobytes()
        dealt = self._dealt.get(key)
        if dealt is None:
            if len(self._dealt) >= DEALT_MAX:
                self._dealt.clear()
            dealt = self._dealt[key] = self._dealt_anew(tag)
        return dealt

    def _dealt_anew(self, tag: NDArray[np.uint32]) -> Dealt:
        place = np.minimum(self._ids.searchsorted(tag), len(self._ids) - 1)
        known = self._ids[place] == tag
        place = place[known]
        group, slot = self._group[place], self._slot[place]
        groups: list[tuple[int, Counts, Counts | None]] = []
        for g in range(len(self.builders)):
            mine = (group == g).nonzero()[0]
            if len(mine):
                groups.append((g, slot[mine], None if len(mine) == len(group) else mine))
        return Dealt(None if known.all() else known, self._low[place], self._high[place], tuple(groups))

    def take_gap(self, gap: Gap) -> None:
        """Note what is lost. Values of the tags stand for the present again from their next sample on."""
        for g, builder in enumerate(self.builders):
            slots = self._slots(g, gap.tags)
            if slots.any():
                builder.take_gap(gap.from_at, gap.until_at, self._arrivals, slots)

    def hear(self, at_us: int, tick: Tick) -> list[Gap]:
        """Note when (agent time) a tick was taken, before it closes rows; return what is lost of sources it retires."""
        return [self._end(each, tick) for each in self._complete.hear(at_us, tick)]

    def _end(self, gone: Retired, tick: Tick) -> Gap:
        """Let nothing stand for the present any more that came from a source, or before its last sample."""
        until_at = max(gone.complete_until, tick.complete_until)
        arrival = self._last_arrival.pop(gone.source, 0)
        for builder, columns in zip(self.builders, self.columns, strict=True):
            builder.take_gap(gone.complete_until, until_at, arrival, columns.measured.copy())
        reason = f"silent: rows go on without it, by {tick.source}"
        return Gap(gone.source, tick.epoch, tick.seq, (), gone.complete_until, until_at, reason)

    def tick(self, tick: Tick) -> list[Row]:
        """Return the rows that close by it, oldest first, groups of one time in the order of the configuration."""
        before = self._complete.take(tick)
        if not tick.alive:
            self._lost.take(tick.complete_until - 1 if before is None else before, tick.complete_until)
        for tag_id in tick.stale:
            if tag_id in self._where:
                g, slot = self._where[tag_id]
                self.builders[g].take_stale(slot, self._arrivals)
        watermark = self._complete.until_at
        rows: list[Row] = []
        for builder in self.builders:
            rows += builder.close(watermark - self._lateness_us, watermark, self._lost)
        rows.sort(key=lambda row: row.end_at)
        return rows

    def _slots(self, group: int, tag_ids: Sequence[int]) -> Mask:
        """Return which slots of a group these tags are; no tags means all."""
        if not tag_ids:
            return self.columns[group].measured.copy()
        mask = np.zeros(len(self.columns[group]), dtype=np.bool_)
        mask[[s for g, s in (self._where[i] for i in tag_ids if i in self._where) if g == group]] = True
        return mask

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {
            "arrivals": self._arrivals,
            "unknown": self.unknown,
            "complete": self._complete.state(),
            "last_arrival": dict(sorted(self._last_arrival.items())),
            "lost": self._lost.state(),
            "builders": [builder.state() for builder in self.builders],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self._arrivals, self.unknown = state["arrivals"], state["unknown"]
        self._complete.load(state["complete"])
        self._last_arrival = dict(state["last_arrival"])
        self._lost.load(state["lost"])
        for builder, builder_state in zip(self.builders, state["builders"], strict=True):
            builder.load(builder_state)
