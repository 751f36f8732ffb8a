"""Which detectors run and with what parameters. Its hash is part of every episode's identity."""

from __future__ import annotations

import hashlib

import msgspec

FINDINGS_VERSION = 1
"""Raise it with every change of rows, detectors or evidence that can change a finding."""


class DetectorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a suite."""

    detectors: tuple[str, ...] = ()
    """Names of the table `DETECTORS`; empty means all of them."""
    parameters: dict[str, dict[str, float]] = {}
    """By detector, then by keyword argument of its class. What is not named keeps its default."""
    update_rows: int = 20
    """Rows of its group after which an open episode tells fresh evidence."""

    def sha256(self) -> str:
        """Return the configuration's hash, 64 hex digits."""
        return hashlib.sha256(msgspec.json.encode([FINDINGS_VERSION, self], order="deterministic")).hexdigest()
