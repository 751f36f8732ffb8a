"""What breaks in a run, and when: drawn from a seed, the same for every agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

SCENARIOS: Final = (
    ("oil_on_pads",),
    ("worn_pad",),
    ("heavier_part",),
    ("drive_drag",),
    ("oil_on_pads", "drive_drag"),
    ("seized_regulator", "oil_on_pads"),
    ("stuck_sensor",),
)
"""Each as likely as the others. The last one needs no action: what is done about it is harm only."""
SEVERITY_MIN, SEVERITY_MAX = 0.8, 1.2
ONSET_S_MIN, ONSET_S_MAX = 240.0, 360.0
"""Plant time from the start; by then the detectors have learnt the normal."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One run's faults."""

    seed: int
    faults: tuple[str, ...]
    severity: float
    onset_s: float

    @property
    def name(self) -> str:
        """As it is called in figures."""
        return " + ".join(self.faults).replace("_", " ")


def trouble(seed: int) -> Trouble:
    """Return what breaks under this seed."""
    random = np.random.default_rng([20260101, seed])
    return Trouble(
        seed=seed,
        faults=SCENARIOS[int(random.integers(len(SCENARIOS)))],
        severity=round(float(random.uniform(SEVERITY_MIN, SEVERITY_MAX)), 3),
        onset_s=round(float(random.uniform(ONSET_S_MIN, ONSET_S_MAX)), 1),
    )
