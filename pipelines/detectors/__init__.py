"""The table of detectors. A new one is one file here and one line in `DETECTORS` (docs/how-to-add-a-detector.md)."""

from __future__ import annotations

from pipelines.detectors.limit import Limit
from pipelines.detectors.port import DetectorType
from pipelines.detectors.quality import Quality
from pipelines.detectors.shift import Shift
from pipelines.detectors.stale import Stale
from pipelines.detectors.stuck import Stuck

DETECTORS: dict[str, DetectorType] = {
    "quality": Quality,
    "stale": Stale,
    "stuck": Stuck,
    "limit": Limit,
    "shift": Shift,
}
"""By the word that facts hold. Detectors of the family `data` run before those of `process`, in this order."""
