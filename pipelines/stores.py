"""What holds facts, blobs and detectors' states: files of one machine, or PostgreSQL for agents on several."""

from __future__ import annotations
