"""Row by row: which rows were alarmed and should have been. No adjustment: a row counts for itself alone.

Source of the protocol: SKAB v0.9, core/metrics.py, `chp_score(metric="binary")`: all files in one table. What F1 hides
(it is 0.70 for an alarm that is always on where 54 % of the rows are abnormal) the coefficient of Matthews shows: it is
0 for whatever does not look at the process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.features.packed import Mask


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows by label and alarm."""

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, label: Mask, alarm: Mask) -> Confusion:
        """Count. Both have shape `(n,)`.

        >>> Confusion.of(np.array([1, 1, 0, 0], dtype=bool), np.array([1, 0, 1, 0], dtype=bool))
        Confusion(tp=1, fp=1, fn=1, tn=1)
        """
        tp, alarmed, labelled = (int(np.count_nonzero(mask)) for mask in (label & alarm, alarm, label))
        return cls(tp, alarmed - tp, labelled - tp, len(label) - alarmed - labelled + tp)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if nothing is labelled and nothing alarmed."""
        return 2 * self.tp / max(2 * self.tp + self.fp + self.fn, 1)

    @property
    def far_pct(self) -> float:
        """False alarm rate: normal rows that were alarmed, in percent."""
        return 100 * (self.fp / max(self.fp + self.tn, 1))

    @property
    def mar_pct(self) -> float:
        """Missed alarm rate: abnormal rows that were not alarmed, in percent."""
        return 100 * (self.fn / max(self.fn + self.tp, 1))

    @property
    def precision(self) -> float:
        """Alarmed rows that are labelled."""
        return self.tp / max(self.tp + self.fp, 1)

    @property
    def mcc(self) -> float:
        """Coefficient of Matthews, -1..1: correlation of label and alarm; 0 where one of them never changes.

        Source: B. W. Matthews, Biochimica et Biophysica Acta 405, 1975.
        """
        tp, fp, fn, tn = self.tp, self.fp, self.fn, self.tn
        spread = math.sqrt(float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return (tp * tn - fp * fn) / (spread or 1.0)
