"""Novelty of one tag, row by row: a score in 0..1 that means the same on every tag, and one burst of it per episode.

Four statistics (distance to the nearest neighbours of 1, 8 and 12 × 4 rows, and the level) are each judged by their own
past (`Tail`); the score is the mean of the four surprises. Two things keep a tag from crying all the time:

- an episode is told once: within 0.45 warm-ups after a burst only a clearly stronger row bursts again;
- every burst raises the bar, by log10(1 + bursts in the last 20 warm-ups): a tag that is often odd has to be odder. The
  probability that is asked for thus falls like 1/(1 + bursts), and alarms of a quiet tag grow like a logarithm.

What it knows of time is rows: rows of uneven length are taken as they come, and a row without a value does not count.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from pipelines.detectors.own_past.level import Level
from pipelines.detectors.own_past.neighbours import Embedding
from pipelines.detectors.own_past.tail import Tail, log10
from pipelines.features.packed import Floats

WARM_UP_ROWS_MIN: Final = 40
WARM_UP_ROWS_MAX: Final = 750
"""Bounds of the unit of all memories; a longer warm-up is learnt from, but gives no longer memory."""
HISTORY_WARM_UPS: Final = 3
"""Where neighbours are sought. From 2 to 4 results do not differ."""
TAIL_WARM_UPS: Final = 6
"""Past of the statistics. From 5 to 12 results do not differ, at 3 they are 2 points worse."""
BUDGET_WARM_UPS: Final = 20
BUDGET_WEIGHT: Final = 1.0
EPISODE_WARM_UPS: Final = 0.45
ESCALATION: Final = 0.5
"""A row within an episode that is so much more surprising, in decades, bursts again."""
ALARM: Final = 0.7
"""Mean surprise, in decades, at which a row bursts. From 0.5 to 0.9 results do not differ."""
ROWS_MIN: Final = 120
"""Before so many rows nothing is told: the longest embedding has no neighbours yet."""
VALUE_MAX: Final = 1e100
"""Values beyond are taken for this one: their squares are still finite."""

EMBEDDINGS: Final = (Embedding(1, 1), Embedding(8, 1), Embedding(12, 4))


class Judged(NamedTuple):
    """What one row gave."""

    surprise: float
    """Mean surprise, in decades, 0..6, before the budget."""
    burst: float
    """Score in 0..1 where an episode begins or escalates, 0.0 elsewhere: s / (s + alarm), s being the surprise less
    what earlier bursts cost. So 0.5 is the alarm, and every burst is above it."""


NOTHING: Final = Judged(0.0, 0.0)


class Novelty:
    """The memory of one tag. About 100 kB with a warm-up of 750 rows, and bounded."""

    def __init__(self, warm_up_rows: int, *, alarm: float = ALARM) -> None:
        """Begin with no past.

        Args:
            warm_up_rows: The unit of all memories, clipped to 40..750. The warm-up's own rows are fed like all others.
            alarm: Mean surprise in decades from which on a row bursts, above 0.
        """
        if not 0.0 < alarm:
            raise ValueError(f"alarm is {alarm}: it must be above 0 decades")
        unit = min(max(warm_up_rows, WARM_UP_ROWS_MIN), WARM_UP_ROWS_MAX)
        self._unit, self._alarm = unit, alarm
        self._history = HISTORY_WARM_UPS * unit
        self._keep = self._history + max(e.span for e in EMBEDDINGS) + 1
        self._buffer: Floats = np.zeros(2 * self._keep)
        self._end = 0
        self._level = Level(unit)
        self._tails = tuple(Tail(TAIL_WARM_UPS * unit) for _ in range(len(EMBEDDINGS) + 1))
        self._rows = 0
        self._bursts = 0.0
        self._peak = 0.0
        self._burst_row = -1

    def update(self, value: float) -> Judged:
        """Judge one value and learn it. NaN and infinities are passed over as if the row were not there."""
        if not math.isfinite(value):
            return NOTHING
        value = min(max(value, -VALUE_MAX), VALUE_MAX)
        surprise = self._surprise(value)
        burst = self._burst(surprise)
        self._rows += 1
        return Judged(surprise, burst)

    def scores(self, values: Floats) -> Floats:
        """Return the bursts of many values, oldest first, shape `(n,)`: the same as one by one."""
        return np.array([self.update(value).burst for value in values.tolist()], dtype=np.float64)

    def _surprise(self, value: float) -> float:
        past = self._remember(value)
        total = 0.0
        for embedding, tail in zip(EMBEDDINGS, self._tails, strict=False):
            total += tail.surprise(embedding.distance(past, self._history))
        total += self._tails[-1].surprise(self._level.deviation(value))
        return total / len(self._tails)

    def _remember(self, value: float) -> Floats:
        if self._end == len(self._buffer):
            self._buffer[: self._keep - 1] = self._buffer[self._end - self._keep + 1 :]
            self._end = self._keep - 1
        self._buffer[self._end] = value
        self._end += 1
        return self._buffer[max(0, self._end - self._keep) : self._end]

    def _burst(self, surprise: float) -> float:
        self._bursts *= 1.0 - 1.0 / (BUDGET_WARM_UPS * self._unit)
        if surprise < self._alarm:
            return 0.0
        above = surprise - BUDGET_WEIGHT * log10(1.0 + self._bursts)
        if above < self._alarm:
            return 0.0
        in_episode = self._burst_row >= 0 and self._rows - self._burst_row < int(EPISODE_WARM_UPS * self._unit)
        if in_episode and not above > self._peak + ESCALATION:
            return 0.0
        self._burst_row, self._peak = self._rows, above
        self._bursts += 1.0
        return above / (above + self._alarm) if self._rows >= ROWS_MIN else 0.0

    def forgive(self) -> None:
        """End the episode: the next surprising row bursts. What was learnt stays."""
        self._burst_row = -1

    def state(self) -> dict[str, Any]:
        """Return what `load` takes."""
        return {
            "unit": self._unit,
            "past": self._buffer[max(0, self._end - self._keep) : self._end],
            "level": self._level.state(),
            "tails": [tail.state() for tail in self._tails],
            "rows": self._rows,
            "bursts": self._bursts,
            "peak": self._peak,
            "burst_row": self._burst_row,
        }

    @classmethod
    def of(cls, state: dict[str, Any], *, alarm: float = ALARM) -> Novelty:
        """Return a memory as it was when `state` was taken."""
        novelty = cls(state["unit"], alarm=alarm)
        past = state["past"]
        novelty._buffer[: len(past)], novelty._end = past, len(past)
        novelty._level.load(state["level"])
        for tail, kept in zip(novelty._tails, state["tails"], strict=True):
            tail.load(kept)
        novelty._rows, novelty._bursts = state["rows"], state["bursts"]
        novelty._peak, novelty._burst_row = state["peak"], state["burst_row"]
        return novelty
