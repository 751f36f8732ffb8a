"""What a detector is: one algorithm over the rows of one group, with a memory that can be saved.

A detector says at which row a condition begins and ends; episodes, evidence, shelving and facts are made elsewhere.
It is pure: no clock, file or random, and the same rows give the same signals and the same bytes of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

from pipelines.detectors.baseline import Baseline
from pipelines.features.packed import Counts, Floats, Mask
from pipelines.features.row import Row
from schemas.anomalies import Severity

Family = Literal["data", "process"]
"""data: the value cannot be believed. process: it can, and the process is not as it should be."""

Direction = Literal["up", "down", "none"]


class Signal(NamedTuple):
    """A condition of one tag begins or ends at this row."""

    slot: int
    """The tag, as an index into the group's columns."""
    begins: bool
    onset_at: int = 0
    """End of the first row of the excursion; 0 where it ends."""
    direction: Direction = "none"
    detail: str = ""
    """For people, of our own making, with numbers and units."""


@dataclass(slots=True, eq=False)
class Context:
    """What a detector may know of a row beside the row. Arrays have shape `(n,)`."""

    executing: bool
    """Whether the cell was in EXECUTE during the whole row; always true for a cell without a PackML state."""
    blocked: Mask
    """Tags that may neither begin nor count: data that is known to be bad (for `process`), or shelved by a person."""
    doubtful: Mask
    """Tags whose value looks unreal in this row, or that are not settled yet after a stop. Detectors of the family
    `data` mark the former, statistical ones pass over both; hard limits do not."""
    baseline: Baseline
    """The learnt normal of each tag."""
    z: Floats
    """(value - centre) / spread; NaN without a value or a normal."""

    def judged(self, watched: Mask, values: Floats) -> Mask:
        """Return which of the watched tags statistics may judge in this row: those that have a value to be believed.

        Args:
            watched: Shape `(n,)`.
            values: What is judged, shape `(n,)`; NaN: nothing.
        """
        judged: Mask = watched & ~self.blocked & ~self.doubtful & (values == values)
        return judged


class Detector(Protocol):
    """One algorithm on one group."""

    family: ClassVar[Family]
    severity: ClassVar[Severity]
    learns: ClassVar[bool]
    """Whether it judges by a learnt normal: such conditions end when the tag's normal is learnt anew."""

    def calibrate(self, slots: Counts, block: Floats) -> None:
        """Learn from the warm-up of some tags.

        Args:
            slots: The tags, shape `(k,)`.
            block: Their values, oldest first, shape `(rows, k)`, no NaN. May hold a few abnormal rows.
        """

    def update(self, row: Row, context: Context) -> list[Signal]:
        """Judge one row. Values may be NaN: such a tag is not judged. `row` must not be written to."""

    def reset(self, slots: Counts) -> None:
        """Forget counts and open conditions of these tags, without a signal: a person or a command said so."""

    def snapshot(self) -> bytes:
        """Return the whole memory."""

    def restore(self, data: bytes) -> None:
        """Go back to a memory. What follows is the same, bit for bit, as without the interruption."""


DetectorType = Callable[..., Detector]
"""A detector's class: what the table holds. It is called with the group's `Columns`, and with parameters as keyword
arguments that have defaults and units in their names."""
