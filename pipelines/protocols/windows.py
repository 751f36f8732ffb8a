"""The Numenta Anomaly Benchmark: scores of rows against windows, one threshold for all files and each profile.

A row above the threshold scores by its place: near 1 at the beginning of a window, 0 at its end, then falling to -1
as it comes later behind it. In a window only the best row counts, and an empty one costs the weight of a miss. The
threshold is the one at which the sum over all files is largest, so each figure is that of the best threshold in
hindsight; 0 is what silence gets, 100 what claiming the first row of each window and nothing else gets.

Source: Lavin and Ahmad, Evaluating Real-time Anomaly Detection Algorithms, ICMLA 2015; NAB v1.1, nab/scorer.py and
nab/sweeper.py. Published tables mean these three figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.features.packed import Counts, Floats
from pipelines.protocols.changes import Weights

PROBATION: Final = 0.15
PROBATION_ROWS_MAX: Final = 750
FAR_BEHIND: Final = 3.0
"""Windows behind a window, from which on a row costs its whole weight."""

PROFILES: Final[Mapping[str, Weights]] = {
    "standard": Weights(1.0, 0.11, 1.0),
    "low_fp": Weights(1.0, 0.22, 1.0),
    "low_fn": Weights(1.0, 0.11, 2.0),
}
"""nab/config/profiles.json; here as costs."""


@dataclass(frozen=True, slots=True, eq=False)
class Worth:
    """What each row of a file would be worth if it were claimed. Arrays have shape `(n,)`."""

    worth: Floats
    window: Counts
    """Number of the window in which the row lies, -1 outside."""
    windows: int


@dataclass(frozen=True, slots=True)
class Best:
    """The best that one threshold gives."""

    score: float
    threshold: float
    """The lowest score of a row that is claimed."""


def probation_rows(rows: int) -> int:
    """Return how many rows of a file are for learning and not scored.

    >>> probation_rows(4032), probation_rows(15902)
    (604, 750)
    """
    return min(int(PROBATION * rows), PROBATION_ROWS_MAX)


def worth(rows: int, spans: Sequence[tuple[int, int]]) -> Worth:
    """Return what the rows of a file are worth.

    Args:
        rows: Of the file.
        spans: First and last row of each window, ascending, apart from each other.
    """
    value, window, row = np.full(rows, -1.0), np.full(rows, -1, dtype=np.int64), np.arange(rows)
    for number, (first, last) in enumerate(spans):
        width, inside = last - first + 1.0, slice(first, last + 1)
        value[inside] = _sigmoid(-(last - row[inside] + 1) / width) / float(_sigmoid(np.array(-1.0)))
        window[inside] = number
        until = spans[number + 1][0] if number + 1 < len(spans) else rows
        behind = slice(last + 1, until)
        value[behind] = _sigmoid((row[behind] - last) / max(width - 1, 1e-9))
    return Worth(value, window, len(spans))


def best(files: Sequence[tuple[Floats, Worth]], profile: str) -> Best:
    """Return the score of the best threshold for all files.

    Args:
        files: Scores of the rows in 0..1, shape `(n,)`, and what the rows are worth; rows on probation included.
        profile: One of `PROFILES`.
    """
    weights = PROFILES[profile]
    score, value, window = _pooled(files)
    order = np.argsort(-score, kind="stable")
    score, value, window = score[order], value[order], window[order]
    gain = _gains(value, window, weights)
    ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    silence = -weights.missed * len(np.unique(window[window >= 0]))
    totals = silence + np.cumsum(gain)[ends]
    place = int(np.argmax(totals))
    all_windows = sum(each.windows for _, each in files)
    perfect = all_windows * weights.hit - silence
    got = max(float(totals[place]), silence) - silence
    return Best(100 * got / perfect if perfect else 0.0, float(score[ends[place]]))


def _pooled(files: Sequence[tuple[Floats, Worth]]) -> tuple[Floats, Floats, Counts]:
    """Return scores, worth and windows of all rows behind the probation; windows numbered through."""
    scores, values, numbers, before = [], [], [], 0
    for score, each in files:
        scored = slice(probation_rows(len(score)), None)
        # To the digits that a table of predictions keeps: rows of one score are claimed together.
        scores.append(np.round(score[scored], 12))
        values.append(each.worth[scored])
        numbers.append(np.where(each.window[scored] >= 0, each.window[scored] + before, -1))
        before += each.windows
    return np.concatenate(scores), np.concatenate(values), np.concatenate(numbers)


def _gains(value: Floats, window: Counts, weights: Weights) -> Floats:
    """Return what claiming each row adds, in the order of falling scores: the best row of a window counts alone."""
    gain = np.where(window < 0, value * weights.false, 0.0)
    had: dict[int, float] = {}
    for k in np.flatnonzero(window >= 0).tolist():
        number, here = int(window[k]), float(value[k]) * weights.hit
        before = had.get(number, -weights.missed)
        if here > before:
            gain[k] += here - before
            had[number] = here
    return gain


def _sigmoid(place: Floats) -> Floats:
    """Return nab/sweeper.py's scaled sigmoid: 0 at the window's end, towards 1 before it and -1 behind it."""
    value: Floats = np.where(place > FAR_BEHIND, -1.0, 2 / (1 + np.exp(5 * place)) - 1)
    return value
