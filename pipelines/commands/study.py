"""For the reliability engineer: run the detectors over recordings."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    del app
