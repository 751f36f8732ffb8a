"""Writes a generated page, or tells whether the one that is checked in is stale."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def settle(name: str, text: str, arguments: Sequence[str], command: str) -> int:
    """Write `docs/NAME`, or with ``--check`` compare; returns the exit status."""
    path = DOCS / name
    if "--check" not in arguments:
        path.write_text(text)
        return 0
    if path.exists() and path.read_text() == text:
        return 0
    print(f"docs/{name} is stale: run {command}", file=sys.stderr)
    return 1
