"""The product's own suite over a recording, a row at a time: what was alarmed when that row had arrived.

This is the one seam between the detectors and the protocols. Each row is fed as samples and a tick up to its own time,
as a collector feeds it, and is judged before the next one is looked at: a prediction cannot know what comes later. Any
detector of the table takes part by its episodes; `verdict` says how a row's are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pipelines.detectors.config import DetectorConfig
from pipelines.detectors.suite import Suite
from pipelines.features.packed import Floats, Mask
from pipelines.features.row import BAD
from pipelines.protocols.cells import COUNTER_ID, cell_of
from pipelines.protocols.series import Series
from schemas.facts import AnomalyDetected
from schemas.plant import Cell
from schemas.samples import STATUS_BAD, STATUS_GOOD, Gap, Input, Kept, SampleBatch, Tick

SOURCE: Final = "recording"
GAP_FACTOR: Final = 10.0
"""A time step this many times longer than the median one of the rows for learning is a gap."""
HALF_AT_Z: Final = 6.0
"""The deviation, in robust standard deviations, that scores one half: where the shift detector begins to count."""
CHANGE_DETECTORS: Final[frozenset[str]] = frozenset()
"""Detectors whose episodes begin where the process changes. While none of the suite's is here, both edges of an alarm
are claimed as changes, which is what SKAB's leaderboard does with detectors of outliers."""
BETWEEN_S: Final = 3600.0
"""Time put between a recording that was learnt from and the one that is predicted."""


@dataclass(frozen=True, slots=True)
class Raised:
    """One episode, by rows of the file."""

    tag: str
    """The column's name in the file."""
    detector: str
    from_row: int
    """The row at which it opened."""
    until_row: int
    """The first row at which it was over; the number of rows if it never was."""
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What was said of each row when it arrived. Arrays have shape `(rows,)`."""

    key: str
    pred: Mask
    """Whether an alarm was on."""
    cp: Mask
    """Whether a change was claimed."""
    score: Floats
    """How far the row was from normal, 0..1."""
    raised: tuple[Raised, ...] = ()

    def __len__(self) -> int:
        return len(self.pred)


@dataclass(slots=True)
class Verdicts:
    """Rows judged so far."""

    alarmed: list[bool] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    opened: dict[str, tuple[int, AnomalyDetected]] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)


class Judge:
    """A suite that is given a recording's rows one after the other."""

    def __init__(self, cell: Cell, config: DetectorConfig | None = None) -> None:
        self._suite = Suite(cell, config)
        self._ids = np.array([COUNTER_ID, *(tag.id for tag in cell.tags if tag.id != COUNTER_ID)], dtype=np.uint32)
        self._titles = {tag.name: tag.title for tag in cell.tags}
        self._position = self._number = 0
        self._claims_changes = bool(CHANGE_DETECTORS & set(self._suite.watches[0].detectors))

    def remember(self) -> tuple[bytes, int, int]:
        """Return its memory."""
        return self._suite.snapshot(), self._position, self._number

    def recall(self, memory: tuple[bytes, int, int]) -> None:
        """Go back to a memory."""
        snapshot, self._position, self._number = memory
        self._suite.restore(snapshot)

    def judge(self, series: Series, *, behind_at: int = 0, gap_us: float = np.inf) -> Predictions:
        """Judge all rows of a recording.

        Args:
            series: The recording.
            behind_at: Its times are put behind this one, if they are not; microseconds since 1970 UTC.
            gap_us: A longer step between two rows is a gap.
        """
        at, verdicts = series.at, Verdicts()
        at = at + max(0, behind_at - int(at[0]))
        before_at = int(at[0]) - 1
        if self._number == 0:
            # The counter's first sample only says where the first row begins.
            self._feed(Tick(SOURCE, 1, 0, before_at - 1, alive=True))
            self._feed(self._batch(before_at, np.full(series.values.shape[1], np.nan)[:0]))
            self._feed(Tick(SOURCE, 1, 0, before_at, alive=True))
        for row, row_at in enumerate(at.tolist()):
            if row_at - before_at > gap_us:
                self._feed(Gap(SOURCE, 1, 0, (), before_at, row_at, "the recording has no rows"))
            self._row(row, row_at, series.values[row], verdicts)
            before_at = row_at
        return self._predictions(series, verdicts)

    def _row(self, row: int, at: int, values: Floats, verdicts: Verdicts) -> None:
        self._feed(self._batch(at, values))
        fed = self._suite.feed(self._kept(Tick(SOURCE, 1, 0, at, alive=True)))
        assert len(fed.rows) == 1, "a row of the file is a row of the suite"
        begun = [fact for fact in fed.facts if isinstance(fact, AnomalyDetected)]
        verdicts.opened |= {fact.episode_id: (row, fact) for fact in begun}
        verdicts.ended |= {episode.episode_id: row for episode in fed.ended}
        verdicts.alarmed.append(bool(self._suite.episodes.open))
        verdicts.changed.append(any(fact.detector in CHANGE_DETECTORS for fact in begun))
        verdicts.scores.append(strength(self._suite))

    def _batch(self, at: int, values: Floats) -> SampleBatch:
        value = np.concatenate(([float(self._number)], values))
        self._number += 1
        n = len(value)
        status = np.where(np.isfinite(value), np.uint32(STATUS_GOOD), np.uint32(STATUS_BAD))
        times = np.full(n, at, dtype=np.int64)
        return SampleBatch(SOURCE, 1, 0, self._ids[:n], times, times, value, status)

    def _feed(self, message: Input) -> None:
        self._suite.feed(self._kept(message))

    def _kept(self, message: Input) -> Kept:
        self._position += 1
        at = message.complete_until if isinstance(message, Tick) else 0
        return Kept(self._position, at, message)

    def _predictions(self, series: Series, verdicts: Verdicts) -> Predictions:
        pred = np.array(verdicts.alarmed, dtype=np.bool_)
        changed = np.array(verdicts.changed, dtype=np.bool_)
        cp = changed if self._claims_changes else np.concatenate((pred[:1], pred[1:] != pred[:-1]))
        return Predictions(series.key, pred, cp, np.array(verdicts.scores), tuple(self._raised(verdicts)))

    def _raised(self, verdicts: Verdicts) -> Iterator[Raised]:
        rows = len(verdicts.alarmed)
        for episode_id, (row, fact) in verdicts.opened.items():
            until_row = verdicts.ended.get(episode_id, rows)
            yield Raised(self._titles[fact.tag] or fact.tag, fact.detector, row, until_row, fact.detail)


def strength(suite: Suite) -> float:
    """Return how far the suite's last row is from normal, 0..1: its strongest deviation.

    |z| / (|z| + 6), so that it grows with z for ever and orders the rows; 0 while nothing is learnt. A value that is
    not believed has no z: a row with one counts as 1, because it lies far outside of what was ever seen.
    """
    strongest = 0.0
    for watch in suite.watches:
        if watch.row is None:
            continue
        if (watch.row.flags[watch.columns.watched & watch.baseline.known] & BAD).any():
            return 1.0
        z = np.abs(watch.z[watch.columns.watched])
        strongest = max(strongest, float(np.nanmax(z, initial=0.0)))
    return strongest / (strongest + HALF_AT_Z)


def predict(series: Series, fit_rows: int, config: DetectorConfig | None = None) -> Predictions:
    """Predict each row of a recording that is learnt from in its first rows."""
    return Judge(cell_of(series, fit_rows), config).judge(series, gap_us=_gap_us(series, fit_rows))


@dataclass(frozen=True, slots=True)
class Learnt:
    """What one recording taught, for others of the same tags."""

    cell: Cell
    memory: tuple[bytes, int, int]
    until_at: int
    """Microseconds since 1970 UTC."""


def learn(series: Series, config: DetectorConfig | None = None) -> Learnt:
    """Learn from a whole recording."""
    judge = Judge(cell := cell_of(series, len(series)), config)
    judge.judge(series)
    return Learnt(cell, judge.remember(), int(series.at[-1]))


def predict_from(learnt: Learnt, series: Series, config: DetectorConfig | None = None) -> Predictions:
    """Predict each row of a recording with what another one taught."""
    judge = Judge(learnt.cell, config)
    judge.recall(learnt.memory)
    return judge.judge(series, behind_at=learnt.until_at + int(BETWEEN_S * 1e6))


def _gap_us(series: Series, fit_rows: int) -> float:
    steps = np.diff(series.at[:fit_rows])
    return GAP_FACTOR * float(np.median(steps)) if len(steps) else np.inf
