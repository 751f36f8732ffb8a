"""What the model never sees in training, so that what it reaches there says something.

Streams of chance are apart by their first number. Held out besides: names (`cells.SYLLABLES`, other syllables), and
combinations of faults: a fault that shows itself by three signs beside one that does by a single one, and in the
simulated cell a heavier part beside a dragging drive.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pipelines.training.cells import TrainingCell
from pipelines.training.incidents import Incident

TRAINING, HELD_OUT = 1, 2
SIMULATED_HELD_OUT: Final = frozenset({"heavier_part", "drive_drag"})


def chance(seed: int, split: int, *more: int) -> np.random.Generator:
    """Return the stream of a split."""
    return np.random.default_rng([seed, split, *more])


def is_held_out(found: Incident, cell: TrainingCell) -> bool:
    """Return whether an incident is of a combination of faults that is kept for measuring."""
    named = {finding.diagnosis for finding in found.right}
    sizes = {len(fault.shows) for fault in cell.faults if fault.cause in named}
    return {1, 3} <= sizes or named >= SIMULATED_HELD_OUT
