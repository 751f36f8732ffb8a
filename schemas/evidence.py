"""What a detector saw, small enough to be read by a person and a model: at most 1.5 kB encoded."""

from __future__ import annotations

import msgspec

from schemas.playbook import Bucket


class TagEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tag at the row where an episode opened. Floats are rounded to 6 significant digits."""

    tag: str
    asset: str
    value: float | None
    """None: no good value."""
    baseline: float | None
    """The learnt median; None before calibration or while it is learnt anew."""
    z: float | None
    """(value - baseline) / robust spread."""
    bucket: Bucket


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tags by deviation, worst first, and the set-points at the same row."""

    row_at: int
    """End of the row, microseconds since 1970 UTC."""
    tags: tuple[TagEvidence, ...]
    setpoints: dict[str, float]
    """Last good value of each set-point tag, exact: `From` of a command is made of it."""
    state: str
    """PackML state."""
