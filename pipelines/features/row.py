"""A closed row of a group: one value a tag, and how it was come by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.features.packed import Floats, Mask

HELD: Final = 1
"""No sample in this row; the last good value stands for the present."""
BAD: Final = 2
"""The latest sample is explicitly not good: StatusCode, NaN, infinity or outside the tag's range."""
STALE: Final = 4
"""No value: nothing came for longer than `hold_s` while the source was alive, or the collector said so."""
MISSING: Final = 8
"""No value, and nobody's fault here: nothing came yet, a gap, or the source was lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row. Arrays have shape `(n,)` in the order of `tags`, and are never written to again."""

    group: str
    tags: tuple[str, ...]
    start_at: int
    """Exclusive; microseconds since 1970 UTC."""
    end_at: int
    """Inclusive."""
    values: Floats
    """NaN where there is no good value. A value that is not NaN comes from a Good sample within the tag's range."""
    fresh: Mask
    """Whether a sample of the tag, good or not, lies in this row."""
    flags: NDArray[np.uint8]
    """Bits `HELD | BAD | STALE | MISSING`; 0 is a fresh good value."""
    sound: bool
    """Whether no tag is BAD, STALE or MISSING: most rows, and detectors of the data are done with them at once."""

    def value(self, tag: str) -> float:
        """Return the tag's value, NaN if it has none.

        Raises:
            ValueError: the tag is not of this group.
        """
        return float(self.values[self.tags.index(tag)])
