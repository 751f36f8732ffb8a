"""Findings of detectors: an episode from onset to clear."""

from __future__ import annotations

from typing import Literal

DetectorKind = Literal["quality", "stale", "stuck", "limit", "shift"]
"""Kinds that ship with the product. A plug-in detector brings its own word, so facts hold a plain string."""

Severity = Literal["low", "medium", "high"]

ClearReason = Literal["normal", "rebaselined", "shelved", "forgotten"]
"""forgotten: the detectors began anew without it, so nobody would ever see it end."""
