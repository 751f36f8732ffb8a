"""The rows of one group: samples sorted by source time, closed by the watermark, held where that is allowed.

A row's value of a tag is its last good sample in the row by source time (ties: the later arrival). Without one, the
last good value is held, provided that no explicitly bad sample, gap, staleness or lost source came after it and
`hold_s` is not over. Everything else is NaN. A closed row is never opened again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask
from pipelines.features.row import BAD, HELD, MISSING, STALE, Row

PENDING_PER_TAG_MAX = 4096
"""Samples waiting for rows to close, times the number of tags. Beyond, those that are complete are folded into the open
row, and the farthest in the future are discarded and counted: a clock that runs ahead must not fill the memory."""

GAPS_MAX = 64
"""Gaps waiting for rows to pass them; beyond, the two oldest become one that covers both."""

CATCH_UP_ROWS_MAX = 3600
"""Rows of a grid that one tick closes. Ticks come every second: only after the agent was down is more due at once, and
empty rows of days would keep it from all that is present."""


@dataclass(slots=True)
class GapSpan:
    """A gap as a group sees it."""

    from_at: int
    until_at: int
    arrival: int
    """Number of the last sample that arrived before the gap was told."""
    slots: Mask


class RowBuilder:
    """Samples of one group to rows. What all groups have in common; when a row ends, subclasses say."""

    _KEPT = ("at", "slot", "arrival", "value", "good")

    def __init__(self, columns: Columns) -> None:
        n = len(columns)
        self.columns = columns
        self.late = np.zeros(n, dtype=np.int64)
        """Samples a tag that came after their row had closed."""
        self.closed_until: int | None = None
        """End of the last closed row, or where the first one begins; None before that is known."""
        self._chunks: list[tuple[Counts, Counts, Counts, Floats, Mask]] = []
        self.discarded = 0
        """Samples too far in the future to be kept."""
        self._pending = 0
        self._pending_max = PENDING_PER_TAG_MAX * max(1, n)
        self._gaps: list[GapSpan] = []
        # The last good sample of each tag, and whether the latest sample of all is a good one.
        self._value = np.full(n, np.nan)
        self._at = np.full(n, np.iinfo(np.int64).min // 2)
        self._arrival = np.zeros(n, dtype=np.int64)
        self._latest_at = self._at.copy()
        self._good = np.ones(n, dtype=np.bool_)
        # Good samples that arrived up to here no longer stand for the present (gap, or staleness told).
        self._ended = np.zeros(n, dtype=np.int64)
        self._told_stale = np.zeros(n, dtype=np.bool_)
        # Since when something should have come: the latest sample, or the end of a gap or of a lost source.
        self._since = self._at.copy()
        self._fresh = np.zeros(n, dtype=np.bool_)
        self._got = np.zeros(n, dtype=np.bool_)

    # ------------------------------------------------------------------ what comes in

    def take(self, slot: Counts, at: Counts, arrival: Counts, value: Floats, good: Mask) -> None:
        """Keep samples for rows that are still open. All arrays have shape `(n,)`, in the order of arrival."""
        if self.closed_until is not None and int(at.min()) <= self.closed_until:
            late = at <= self.closed_until
            self._take_late(slot[late], at[late], arrival[late], value[late], good[late])
            on_time = ~late
            slot, at, arrival = slot[on_time], at[on_time], arrival[on_time]
            value, good = value[on_time], good[on_time]
        if len(slot):
            self._chunks.append((at, slot, arrival, value, good))
            self._pending += len(slot)

    def _take_late(self, slot: Counts, at: Counts, arrival: Counts, value: Floats, good: Mask) -> None:
        """Count; and let the newest word of a tag stand for the present.

        After a reconnection a server sends the present value of every tag with the time at which it last changed,
        which may be long ago. Such a sample changes no closed row, but it may be held from now on.
        """
        for k in range(len(slot)):
            s = int(slot[k])
            self.late[s] += 1
            if at[k] >= self._latest_at[s]:
                self._absorb(slot[k : k + 1], at[k : k + 1], arrival[k : k + 1], value[k : k + 1], good[k : k + 1])
                self._fresh[s] = self._got[s] = False

    def take_gap(self, from_at: int, until_at: int, arrival: int, slots: Mask) -> None:
        """Note that samples between the two times are lost."""
        self._gaps.append(GapSpan(from_at, until_at, arrival, slots))
        if len(self._gaps) > GAPS_MAX:
            a, b = self._gaps[:2]
            merged = GapSpan(
                min(a.from_at, b.from_at), max(a.until_at, b.until_at), max(a.arrival, b.arrival), a.slots | b.slots
            )
            self._gaps[:2] = [merged]

    def take_stale(self, slot: int, arrival: int) -> None:
        """Note that the collector found a tag stale: nothing that came before is held any more."""
        self._ended[slot] = max(int(self._ended[slot]), arrival)
        self._told_stale[slot] = True

    # ------------------------------------------------------------------ what the two kinds of group share

    def _sorted(self) -> tuple[Counts, Counts, Counts, Floats, Mask]:
        """All pending samples by source time; a stable sort keeps arrivals of one time in order."""
        chunks = self._chunks
        if not chunks:
            return _NOTHING
        if len(chunks) == 1:
            at, slot, arrival, value, good = chunks[0]
        else:
            at, slot, arrival, value, good = map(np.concatenate, zip(*chunks, strict=True))
        if np.count_nonzero(at[1:] < at[:-1]) == 0:
            return at, slot, arrival, value, good
        order = at.argsort(kind="stable")
        return at[order], slot[order], arrival[order], value[order], good[order]

    def _keep(self, samples: tuple[Counts, Counts, Counts, Floats, Mask], first: int) -> None:
        last = min(len(samples[0]), first + self._pending_max)
        self.discarded += len(samples[0]) - last
        rest = last - first
        self._chunks = [tuple(column[first:last] for column in samples)] if rest else []  # type: ignore[list-item]
        self._pending = rest

    def _absorb(self, slot: Counts, at: Counts, arrival: Counts, value: Floats, good: Mask) -> None:
        """Fold samples, oldest first and newer than all before, into the open row.

        Where a slot occurs more than once, numpy's assignment by index keeps the last one.
        """
        if not len(slot):
            return
        where = _run(slot)
        self._fresh[where] = True
        self._good[where] = good
        self._latest_at[where] = at
        self._since[where] = at
        if np.count_nonzero(self._told_stale):
            self._told_stale[slot[arrival > self._ended[slot]]] = False
        if np.count_nonzero(good) < len(good):
            where, at, arrival, value = slot[good], at[good], arrival[good], value[good]
        self._got[where] = True
        self._value[where] = value
        self._at[where] = at
        self._arrival[where] = arrival

    def _close(self, start_at: int, end_at: int, *, alive: bool) -> Row:
        """Make the row from what was absorbed."""
        if self._gaps:
            self._pass_gaps(end_at)
        if not alive:
            np.maximum(self._since, end_at, out=self._since)
        valid = self._arrival > self._ended
        usable = self._got & valid
        if np.count_nonzero(usable) < len(usable):
            held = ~usable & valid & self._good & (end_at - self._at <= self.columns.hold_us)
            if not alive:
                held[:] = False
            for gap in self._gaps:
                if gap.from_at < end_at < gap.until_at:
                    held &= ~gap.slots
            flags = self._flags(end_at, usable, held, alive=alive)
            values = np.where(usable | held, self._value, np.nan)
        else:
            flags = np.where(self._good, np.uint8(0), np.uint8(BAD))
            values = self._value.copy()
        fresh = self._fresh
        self._fresh = np.zeros(len(fresh), dtype=np.bool_)
        self._got[:] = False
        self._gaps = [gap for gap in self._gaps if gap.until_at > end_at]
        self.closed_until = end_at
        if self.columns.derived:
            self._derive(values, fresh, flags)
        sound = not np.count_nonzero(flags & _NOT_SOUND)
        return Row(self.columns.group.id, self.columns.names, start_at, end_at, values, fresh, flags, sound)

    def _pass_gaps(self, end_at: int) -> None:
        """End for good what was received before a gap was told and does not reach beyond it."""
        for gap in self._gaps:
            if gap.from_at >= end_at:
                continue
            before = gap.slots & (self._arrival <= gap.arrival) & (self._at < gap.until_at)
            self._ended[before] = np.maximum(self._ended[before], gap.arrival)
            self._since[gap.slots] = np.maximum(self._since[gap.slots], min(gap.until_at, end_at))

    def _flags(self, end_at: int, usable: Mask, held: Mask, *, alive: bool) -> Any:
        bad = ~self._good
        none = ~(usable | held)
        over = none & ~bad & (self._told_stale | (end_at - self._since > self.columns.hold_us))
        if not alive:
            over[:] = False
        flags = np.zeros(len(self.columns), dtype=np.uint8)
        flags[held] = HELD
        flags[bad] |= BAD
        if np.count_nonzero(none):
            flags[over] |= STALE
            flags[none & ~bad & ~over] |= MISSING
        return flags

    def _derive(self, values: Floats, fresh: Mask, flags: Any) -> None:
        """Compute derived tags; NaN if either source is, and where the result is outside the tag's own range."""
        for slot, minuend, subtrahend in self.columns.derived:
            value = values[minuend] - values[subtrahend]
            fresh[slot] = fresh[minuend] or fresh[subtrahend]
            flags[slot] = flags[minuend] | flags[subtrahend]
            if value == value and not self.columns.low[slot] <= value <= self.columns.high[slot]:
                value, flags[slot] = np.nan, flags[slot] | BAD
            values[slot] = value

    # ------------------------------------------------------------------ snapshot

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {
            "closed_until": self.closed_until,
            "late": self.late,
            "discarded": self.discarded,
            "pending": dict(zip(self._KEPT, self._sorted(), strict=True)),
            "gaps": [(g.from_at, g.until_at, g.arrival, g.slots) for g in self._gaps],
            "arrays": {name: getattr(self, f"_{name}") for name in _ARRAYS},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self.closed_until, self.late, self.discarded = state["closed_until"], state["late"], state["discarded"]
        pending = tuple(state["pending"][name] for name in self._KEPT)
        self._chunks = [pending] if len(pending[0]) else []
        self._pending = len(pending[0])
        self._gaps = [GapSpan(*gap) for gap in state["gaps"]]
        for name in _ARRAYS:
            setattr(self, f"_{name}", state["arrays"][name])


_NOT_SOUND = np.uint8(BAD | STALE | MISSING)
_NEVER = np.iinfo(np.int64).max
_ARRAYS = ("value", "at", "arrival", "latest_at", "good", "ended", "told_stale", "since", "fresh", "got")
_NOTHING = (
    np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64),
    np.empty(0, dtype=np.float64), np.empty(0, dtype=np.bool_),
)  # fmt: skip


def _run(slot: Counts) -> Counts | slice:
    """Return slots that follow one another as a slice: numpy is many times faster with it. Others as they are."""
    first = int(slot[0])
    if int(slot[-1]) - first + 1 == len(slot) and np.count_nonzero(slot[1:] - slot[:-1] != 1) == 0:
        return slice(first, first + len(slot))
    return slot


class GridRows(RowBuilder):
    """A row every `period_s`, on a grid of agent time that begins at 1970.

    Rows begin at the first tick, and anew when one comes so late that more than `CATCH_UP_ROWS_MAX` are due.
    """

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        assert columns.group.period_s is not None, "a grid has a period"
        self._period_us = int(columns.group.period_s * 1e6)

    def close(self, until_at: int, watermark: int, lost: LostSpans) -> list[Row]:
        """Return the rows that end at or before `until_at`; `watermark` is how far the source is complete."""
        if self.closed_until is None:
            self._begin(watermark // self._period_us * self._period_us)
        assert self.closed_until is not None
        earliest_at = (until_at // self._period_us - CATCH_UP_ROWS_MAX) * self._period_us
        if self.closed_until < earliest_at:
            self._begin(earliest_at)
        if self.closed_until + self._period_us > until_at and self._pending <= self._pending_max:
            return []
        rows, samples, first = [], self._sorted(), 0
        at, slot, arrival, value, good = samples
        while (end_at := self.closed_until + self._period_us) <= until_at:
            last = int(at.searchsorted(end_at, side="right"))
            cut = slice(first, last)
            self._absorb(slot[cut], at[cut], arrival[cut], value[cut], good[cut])
            rows.append(self._close(self.closed_until, end_at, alive=not lost.covers(end_at)))
            first = last
        self._keep(samples, first)
        return rows

    def _begin(self, at_us: int) -> None:
        """Let what came before the first row stand, without making rows of it."""
        samples = self._sorted()
        at, slot, arrival, value, good = samples
        last = int(at.searchsorted(at_us, side="right"))
        self._absorb(slot[:last], at[:last], arrival[:last], value[:last], good[:last])
        self._keep(samples, last)
        self._fresh[:] = self._got[:] = False
        self._since[:] = np.maximum(self._since, at_us)
        self.closed_until = at_us


class TriggerRows(RowBuilder):
    """A row per change of the trigger tag, with what lies between the change before and this one."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self._slot = columns.names.index(columns.group.trigger or "")
        self._count = np.nan
        """The trigger's last good value; NaN before the first."""
        self._trigger_at = _NEVER
        """Time of the first sample of the trigger that waits; saves the sorting where there is none."""

    def take(self, slot: Counts, at: Counts, arrival: Counts, value: Floats, good: Mask) -> None:
        """Keep samples for rows that are still open."""
        super().take(slot, at, arrival, value, good)
        triggers = slot == self._slot
        if np.count_nonzero(triggers):
            self._trigger_at = min(self._trigger_at, int(at[triggers].min()))

    def close(self, until_at: int, watermark: int, lost: LostSpans) -> list[Row]:
        """Return the rows whose trigger changed at or before `until_at`."""
        if self._trigger_at > until_at and self._pending <= self._pending_max:
            return []
        samples = self._sorted()
        at, slot, arrival, value, good = samples
        rows, first = [], 0
        for k in np.flatnonzero((slot == self._slot) & good & (at <= until_at)).tolist():
            if value[k] == self._count:
                continue
            last = int(at.searchsorted(at[k], side="right"))
            cut = slice(first, max(first, last))
            self._absorb(slot[cut], at[cut], arrival[cut], value[cut], good[cut])
            first = max(first, last)
            self._count = float(value[k])
            end_at = int(at[k])
            if self.closed_until is None:
                self._begin(end_at)
            elif end_at > self.closed_until:
                rows.append(self._close(self.closed_until, end_at, alive=not lost.covers(end_at)))
        if len(at) - first > self._pending_max:
            last = max(first, int(at.searchsorted(until_at, side="right")))
            self._absorb(slot[first:last], at[first:last], arrival[first:last], value[first:last], good[first:last])
            first = last
        self._keep(samples, first)
        waiting = at[(slot == self._slot) & (at > until_at)]
        self._trigger_at = int(waiting[0]) if len(waiting) else _NEVER
        return rows

    def _begin(self, at_us: int) -> None:
        self._fresh[:] = self._got[:] = False
        self._since[:] = np.maximum(self._since, at_us)
        self.closed_until = at_us

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {**super().state(), "count": self._count}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        super().load(state)
        self._count = state["count"]
        self._trigger_at = 0  # looked up at the next tick


class LostSpans:
    """When the source was lost, on the axis of what it said to be complete."""

    SPANS_MAX = 64

    def __init__(self) -> None:
        self._spans: list[list[int]] = []

    def take(self, from_at: int, until_at: int) -> None:
        """Add a span `(from_at, until_at]`; one that continues the last extends it."""
        if self._spans and from_at <= self._spans[-1][1]:
            self._spans[-1][1] = max(self._spans[-1][1], until_at)
        else:
            self._spans.append([from_at, until_at])
            del self._spans[: -self.SPANS_MAX]

    def covers(self, at: int) -> bool:
        """Tell whether the source was lost at this time."""
        return bool(self._spans) and any(low < at <= high for low, high in self._spans)

    def state(self) -> list[list[int]]:
        """Return what `load` takes."""
        return [list(span) for span in self._spans]

    def load(self, state: list[list[int]]) -> None:
        """Go back to `state`."""
        self._spans = [list(span) for span in state]
