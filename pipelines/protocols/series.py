"""One labelled recording as arrays: its rows as they are numbered in the file, and what somebody said of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.features.packed import Counts, Floats, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The rows of a file, oldest first; row 0 is the first one behind the header."""

    key: str
    """Path relative to the folder of the set, without extension, e.g. `skab/valve1/0`."""
    file: str
    seconds: Floats
    """Times as the file has them, shape `(rows,)`, seconds since 1970 UTC: what delays are measured by."""
    values: Floats
    """Shape `(rows, columns)`; NaN where the cell holds no number."""
    columns: tuple[str, ...]
    anomaly: Mask | None = None
    """Rows labelled as abnormal, shape `(rows,)`; None: nobody said."""
    change: Mask | None = None
    """Rows at which a change begins or ends, shape `(rows,)`; None: nobody said."""
    windows: tuple[tuple[int, int], ...] | None = None
    """First and last row of each labelled window (NAB); None: nobody said."""

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def at(self) -> Counts:
        """Times in microseconds, strictly ascending, shape `(rows,)`.

        Some of the published files repeat a time or go back by it. Their rows count by number, so such a row is put one
        microsecond behind the row before it; that needs nothing that comes later.
        """
        at = np.round(self.seconds * 1e6).astype(np.int64)
        row: Counts = np.arange(len(at))
        ascending: Counts = np.maximum.accumulate(at - row) + row
        return ascending

    @property
    def labelled(self) -> bool:
        """Whether somebody said what is abnormal in it."""
        return self.anomaly is not None or self.windows is not None

    @property
    def label(self) -> Mask:
        """Rows that were called abnormal, one by one or by windows, shape `(rows,)`; none if nobody said."""
        if self.anomaly is not None:
            return self.anomaly
        label = np.zeros(len(self), dtype=np.bool_)
        for first, last in self.windows or ():
            label[first : last + 1] = True
        return label

    def until(self, rows: int) -> Series:
        """Return the first rows alone."""

        def cut(mask: Mask | None) -> Mask | None:
            return None if mask is None else mask[:rows]

        windows = None if self.windows is None else tuple(span for span in self.windows if span[1] < rows)
        return Series(
            self.key, self.file, self.seconds[:rows], self.values[:rows], self.columns,
            cut(self.anomaly), cut(self.change), windows,
        )  # fmt: skip
