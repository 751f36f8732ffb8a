"""Subspace: the tags of a unit no longer go together as they did, or leave their common range.

Hotelling's T² over all principal components, each divided by its own variance (with a floor, as the smallest are exact
relations of the process and its controllers, and measure them sharply): on rows as they are, for what is sudden, and on
their exponential mean, for what is small and lasts. Limits come from blocks of the warm-up that were not learnt from.

A subspace needs a normal that stands still: a unit of which more than a tenth of the tags wander in the warm-up is not
judged at all. Nothing is learnt after the warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from pipelines.detectors.jacobi import eigen
from pipelines.detectors.latch import Latch
from pipelines.detectors.port import Context, Family, Signal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, pack, unpack
from pipelines.features.row import Row
from schemas.anomalies import Severity

MEAN_SHARE: Final = 0.2
"""Weight of a row in the mean."""
EIGENVALUE_MIN: Final = 0.01
"""As a part of the average one."""
FOLDS: Final = 5
SETTLING_ROWS: Final = 10
"""Rows of a held-out block until the mean has found itself."""
WANDER_SHARE: Final = 0.05
WANDER_DIVISOR: Final = 50
"""A tag wanders if its mean crosses its median less than once in so many rows."""
WANDERING_MAX: Final = 0.1
"""Part of the tags that may wander."""
ROWS_MIN: Final = 100
"""A held-out block then has as many rows with a settled mean as without."""
ROWS_PER_TAG_MIN: Final = 3
"""With fewer rows the smallest components are noise."""
CLEAR: Final = 0.6
"""Part of the limit of T² within which the unit is back."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A normal of k tags."""

    centre: Floats
    spread: Floats
    """Standard deviation; infinite for a tag that did not move."""
    weights: Floats
    """Standardised values times this are components of unit variance, shape `(k, k)`."""

    @classmethod
    def of(cls, block: Floats) -> Model:
        """Return the normal of `block`, shape `(rows, k)`."""
        rows = len(block)
        centre = _total(block) / rows
        spread = np.sqrt(_total((block - centre) ** 2) / rows)
        spread = np.where(spread > 0, spread, np.inf)
        z = (block - centre) / spread
        correlation = np.zeros((block.shape[1], block.shape[1]))
        for row in z:
            correlation += row[:, None] * row[None, :]
        values, vectors = eigen(correlation / rows)
        return cls(centre, spread, vectors / np.sqrt(np.maximum(values, EIGENVALUE_MIN)))

    def standardise(self, values: Floats) -> Floats:
        """Return deviations in spreads, shape `(k,)`."""
        z: Floats = (values - self.centre) / self.spread
        return z

    def components(self, z: Floats) -> Floats:
        """Return the components of standardised values, shape `(k,)`."""
        return _total(z[:, None] * self.weights)


class Subspace:
    """Watches the process tags of a group as one unit, while the cell executes. Its signals name the leading tag."""

    family: ClassVar[Family] = "process"
    severity: ClassVar[Severity] = "medium"
    learns: ClassVar[bool] = True

    def __init__(
        self,
        columns: Columns,
        *,
        raw_factor: float = 1.2,
        mean_factor: float = 1.4,
        open_rows: float = 3,
        clear_rows: float = 30,
    ) -> None:
        """Begin with nothing learnt.

        Args:
            columns: The group.
            raw_factor: Limit of T² of rows, times its maximum over held-out blocks.
            mean_factor: The same of T² of means.
            open_rows: Rows in a row beyond before a condition begins.
            clear_rows: Rows in a row within before it ends.
        """
        self._columns, self._factors = columns, (raw_factor, mean_factor)
        self._open_rows, self._clear_rows = int(open_rows), int(clear_rows)
        self._latch = Latch(self._open_rows, self._clear_rows, 1)
        self._slots = np.zeros(0, dtype=np.int64)
        self._model = Model(np.zeros(0), np.zeros(0), np.zeros((0, 0)))
        self._limits = np.full(2, np.inf)
        self._mean = np.zeros(0)
        self._leader = -1

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Learn the unit, if these are most of its tags. Of single tags learnt anew, only the centre moves."""
        self.reset(slots)
        if 2 * len(slots) > int(self._columns.watched.sum()):
            self._learn(slots, block)
        elif len(self._slots):
            mine = np.searchsorted(self._slots, slots[np.isin(slots, self._slots)])
            self._model.centre[mine] = _total(block[:, np.isin(slots, self._slots)]) / len(block)

    def _learn(self, slots: Counts, block: Floats) -> None:
        self._limits[:] = np.inf
        rows_min = max(ROWS_MIN, ROWS_PER_TAG_MIN * len(slots))
        if len(slots) < 2 or len(block) < rows_min or wandering(block) > WANDERING_MAX:
            self._slots = slots[:0]
            return
        self._slots, self._model = slots.copy(), Model.of(block)
        self._mean = np.zeros(len(slots))
        self._limits = np.array(self._factors) * held_out(block)

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row. A tag that cannot be judged counts as if it were at its centre."""
        if not len(self._slots):
            return []
        if not context.executing:
            self._latch.interrupt()
            return []
        values = row.values[self._slots]
        usable = ~(context.blocked | context.doubtful)[self._slots] & (values == values)
        was = self._leader
        self.judge(row.end_at, np.where(usable, values, self._model.centre), bool(usable.any()))
        if was < 0 <= self._leader:
            return [self._begin(row)]
        return [Signal(was, begins=False)] if self._leader < 0 <= was else []

    @property
    def active(self) -> bool:
        """Whether the unit is away from its normal."""
        return self._leader >= 0

    def judge(self, end_at: int, values: Floats, usable: bool) -> None:
        """Take one row of the unit's tags; see `active`."""
        z = self._model.standardise(values)
        self._mean += MEAN_SHARE * (z - self._mean)
        raw, mean = self._model.components(z), self._model.components(self._mean)
        ratio = np.array([_sum(raw * raw), _sum(mean * mean)]) / self._limits
        worst = float(ratio.max())
        judged = np.array([usable and (worst > 1 or worst < CLEAR or not self.active)])
        begins, ends = self._latch.step(end_at, np.array([worst > 1]), judged)
        if begins:
            self._leader = int(
                self._slots[self._leading(z, raw) if ratio[0] >= ratio[1] else self._leading(self._mean, mean)]
            )
        elif ends:
            self._leader = -1

    def _leading(self, z: Floats, components: Floats) -> int:
        """Return which tag has the largest part of T²: its deviation times what the components say of it."""
        return int(np.argmax(z * _total((self._model.weights * components).T)))

    def _begin(self, row: Row) -> Signal:
        tag = self._columns.tags[self._leader]
        k = int(np.searchsorted(self._slots, self._leader))
        detail = f"{tag.name}: {len(self._slots)} tags do not go together as learnt, this one the least"
        return Signal(
            self._leader,
            begins=True,
            onset_at=self._latch.onset_at(0),
            direction="up" if row.values[self._leader] > self._model.centre[k] else "down",
            detail=detail,
        )

    def reset(self, slots: Counts) -> None:
        """Forget counts and the open condition, if it is of these tags."""
        if self._leader < 0 or self._leader in slots:
            self._latch.reset(np.zeros(1, dtype=np.int64))
            self._leader = -1
            self._mean = np.zeros_like(self._mean)

    def snapshot(self) -> bytes:
        """Return the whole memory."""
        model = {"centre": self._model.centre, "spread": self._model.spread, "weights": self._model.weights}
        own = {"slots": self._slots, "limits": self._limits, "mean": self._mean, "leader": self._leader}
        return pack({"latch": self._latch.state(), **model, **own})

    def restore(self, data: bytes) -> None:
        """Go back to a memory."""
        state = unpack(data)
        self._latch.load(state["latch"])
        self._model = Model(state["centre"], state["spread"], state["weights"])
        self._slots, self._limits = state["slots"], state["limits"]
        self._mean, self._leader = state["mean"], state["leader"]


def held_out(block: Floats) -> Floats:
    """Return the largest T² of rows and of means, shape `(2,)`, in blocks of the warm-up that were not learnt from."""
    rows = len(block)
    largest = np.zeros(2)
    for fold in range(FOLDS):
        low, high = fold * rows // FOLDS, (fold + 1) * rows // FOLDS
        model = Model.of(np.concatenate([block[:low], block[high:]]))
        mean = np.zeros(block.shape[1])
        for k in range(low, high):
            z = model.standardise(block[k])
            mean += MEAN_SHARE * (z - mean)
            settled = k - low >= SETTLING_ROWS
            for which, deviation in enumerate((z, mean) if settled else (z,)):
                components = model.components(deviation)
                largest[which] = max(largest[which], _sum(components * components))
    return largest


def wandering(block: Floats) -> float:
    """Return the part of the tags whose mean stays on one side of its median for long."""
    mean = block[0].copy()
    means = np.empty_like(block)
    for k, row in enumerate(block):
        mean += WANDER_SHARE * (row - mean)
        means[k] = mean
    above = means > np.sort(means, axis=0)[len(means) // 2]
    crossings = np.count_nonzero(above[1:] != above[:-1], axis=0)
    return float(np.count_nonzero(crossings * WANDER_DIVISOR < len(block)) / int(block.shape[1]))


def _total(rows: Floats) -> Floats:
    """Return the sum of rows, added one after the other: the order of a plain sum is numpy's to choose."""
    total: Floats = np.cumsum(rows, axis=0)[-1]
    return total


def _sum(values: Floats) -> float:
    return float(np.cumsum(values)[-1])
