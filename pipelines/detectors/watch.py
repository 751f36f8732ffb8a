"""One group under watch: its detectors in order, its baseline, and which of its tags cannot be believed just now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.detectors.baseline import Baseline
from pipelines.detectors.config import DetectorConfig
from pipelines.detectors.port import Context, Detector, DetectorType, Signal
from pipelines.detectors.warm_up import WarmUp
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask, pack
from pipelines.features.row import Row


@dataclass(frozen=True, slots=True)
class Calibration:
    """A normal that was learnt at a row."""

    group: str
    rows: int
    blob: bytes
    """Tags with centre and spread, packed."""

    @property
    def sha256(self) -> str:
        """Return the hash of the blob, 64 hex digits."""
        return hashlib.sha256(self.blob).hexdigest()


@dataclass(slots=True)
class Judgement:
    """What one row gave."""

    signals: list[tuple[str, Signal]] = field(default_factory=list)
    """(detector, signal), in the order of the detectors."""
    calibrations: list[Calibration] = field(default_factory=list)


class Watch:
    """The detectors of one group.

    A row in which any hard limit is broken teaches nothing: what is learnt as normal must at least be allowed.
    """

    def __init__(self, columns: Columns, table: dict[str, DetectorType], config: DetectorConfig) -> None:
        n = len(columns)
        self.columns = columns
        self.baseline = Baseline(columns)
        self.row: Row | None = None
        """The last row."""
        self.z: Floats = np.full(n, np.nan)
        """Its deviations."""
        made = {name: kind(columns, **config.parameters.get(name, {})) for name, kind in table.items()}
        self.detectors: dict[str, Detector] = dict(sorted(made.items(), key=lambda item: item[1].family != "data"))
        self._warm_up = WarmUp(columns)
        self.adopted: Calibration | None = None
        """A normal that was there before the first row."""
        self._shelved_until = np.zeros(n, dtype=np.int64)
        self._open: dict[str, Mask] = {
            name: np.zeros(n, dtype=np.bool_) for name, d in self.detectors.items() if d.family == "data"
        }
        self._open_n = 0
        """Open data conditions."""
        self._none: Mask = np.zeros(n, dtype=np.bool_)

    def adopt(self, slots: Counts, block: Floats, widen: Floats) -> None:
        """Take the normal of some tags as given, before the first row.

        Args:
            slots: Shape `(k,)`.
            block: Their normal rows, oldest first, shape `(rows, k)`, no NaN.
            widen: What their spread is multiplied with, shape `(k,)`.
        """
        self.baseline.learn(slots, block)
        self.baseline.spread[slots] *= widen
        for detector in self.detectors.values():
            detector.calibrate(slots, block)
        self._warm_up.finish(slots)
        self.adopted = self._calibration(slots, len(block))

    def judge(self, row: Row, *, executing: bool, stopped_until: int | None = None) -> Judgement:
        """Run all detectors on one row, then learn from it.

        Args:
            row: The row.
            executing: Whether the cell was in EXECUTE during the whole row.
            stopped_until: When the last stop ended, microseconds since 1970 UTC; None: no stop was seen.
        """
        shelved = self._shelved_until >= row.end_at if np.count_nonzero(self._shelved_until) else self._none
        doubtful = np.zeros(len(self.columns), dtype=np.bool_)
        self.row, self.z = row, self.baseline.z(row.values)
        context = Context(executing, shelved, doubtful, self.baseline, self.z)
        judgement = Judgement()
        believed = False
        for name, detector in self.detectors.items():
            if detector.family == "data":
                context.blocked = shelved | self._unbelievable(name) if self._open_n else shelved
            elif not believed:
                context.blocked, believed = self._blocked(shelved), True
                if stopped_until is not None:
                    doubtful |= row.end_at - stopped_until < self.columns.settle_us
                self._spread_to_derived(doubtful)
            for signal in detector.update(row, context):
                judgement.signals.append((name, signal))
                if detector.family == "data":
                    self._open[name][signal.slot] = signal.begins
                    self._open_n += 1 if signal.begins else -1
        if executing and not self._warm_up.over and not self.columns.beyond_limits(row.values).any():
            self._learn(row, ~(self._blocked(shelved) | doubtful), judgement)
        return judgement

    def distrusted(self) -> Mask:
        """Return the tags that have an open data condition, and those derived from them."""
        bad = self._unbelievable()
        self._spread_to_derived(bad)
        return bad

    def _unbelievable(self, besides: str = "") -> Mask:
        """Tags with an open data condition of another detector: one trouble with the data is one episode."""
        mask = self._none.copy()
        for name, other in self._open.items():
            if name != besides:
                mask |= other
        return mask

    def _blocked(self, shelved: Mask) -> Mask:
        """Tags that are no process finding now: shelved, known to be bad, or derived from such a one."""
        if not self._open_n:
            return shelved
        return shelved | self.distrusted()

    def _spread_to_derived(self, mask: Mask) -> None:
        """What holds of a source holds of what is computed from it."""
        for slot, minuend, subtrahend in self.columns.derived:
            mask[slot] |= mask[minuend] | mask[subtrahend]

    def _learn(self, row: Row, usable: Mask, judgement: Judgement) -> None:
        for slots, block in self._warm_up.take(row.end_at, row.values, usable):
            self.baseline.learn(slots, block)
            for detector in self.detectors.values():
                detector.calibrate(slots, block)
            judgement.calibrations.append(self._calibration(slots, len(block)))

    def _calibration(self, slots: Counts, rows: int) -> Calibration:
        tags = [self.columns.names[slot] for slot in slots.tolist()]
        normal = {"centre": self.baseline.centre[slots], "spread": self.baseline.spread[slots]}
        return Calibration(self.columns.group.id, rows, pack({"tags": tags, "rows": rows, **normal}))

    # ------------------------------------------------------------------ what people and commands say

    def slots(self, tag_ids: tuple[int, ...]) -> Counts:
        """Return the slots of these tags; no tags means all."""
        return np.array(
            [slot for slot, tag in enumerate(self.columns.tags) if not tag_ids or tag.id in tag_ids], dtype=np.int64
        )

    def shelve(self, slots: Counts, until_at: int) -> None:
        """No condition of these tags begins before a row that ends after `until_at`; what is open ends."""
        self._shelved_until[slots] = until_at
        for detector in self.detectors.values():
            detector.reset(slots)
        for mask in self._open.values():
            mask[slots] = False
        self._open_n = sum(int(np.count_nonzero(mask)) for mask in self._open.values())

    def unshelve(self, slots: Counts) -> None:
        """Watch these tags again."""
        self._shelved_until[slots] = 0

    def rebaseline(self, slots: Counts, settle_until: int) -> None:
        """Their normal moved on purpose: detectors that learn are silent on them until it is learnt anew."""
        for detector in self.detectors.values():
            if detector.learns:
                detector.reset(slots)
        self.baseline.forget(slots)
        self._warm_up.begin_again(slots, settle_until)

    # ------------------------------------------------------------------ snapshot

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        row = self.row
        return {
            "baseline": self.baseline.state(),
            "warm_up": self._warm_up.state(),
            "shelved_until": self._shelved_until,
            "open": self._open,
            "detectors": {name: detector.snapshot() for name, detector in self.detectors.items()},
            "row": None if row is None else (row.start_at, row.end_at, row.values, row.fresh, row.flags, row.sound),
            "z": self.z,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self.baseline.load(state["baseline"])
        self._warm_up.load(state["warm_up"])
        self._shelved_until, self._open, self.z = state["shelved_until"], state["open"], state["z"]
        self._open_n = sum(int(np.count_nonzero(mask)) for mask in self._open.values())
        for name, detector in self.detectors.items():
            detector.restore(state["detectors"][name])
        row = state["row"]
        self.row = None if row is None else Row(self.columns.group.id, self.columns.names, *row)
