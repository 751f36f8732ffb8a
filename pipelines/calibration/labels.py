"""What people said of alarms, as a file: an alarm of a tag in a stretch of time was false, or was true.

    [[labels]]
    tag = "grip_force_n"
    from = 2026-03-01T12:00:00Z
    until = 2026-03-01T12:20:00Z
    alarm = "false"
    who = "m.schmidt"
    reason = "warm oil after the changeover"

Rows of a false alarm are normal: the tag's limit is raised until they raise none. Rows of a true one are not normal,
and bound how far a limit may be raised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from connectors.recordings.times import EPOCH, MICROSECOND
from pipelines.config import parse_file
from schemas.errors import ConfigError
from schemas.plant import Cell, Strict


class Label(Strict):
    """One alarm that somebody judged."""

    tag: str = ""
    """Empty: a false alarm of any tag; of a true one, the tag that shows it most."""
    from_: AwareDatetime = Field(alias="from")
    until: AwareDatetime
    alarm: Literal["false", "true"]
    who: str = Field(min_length=1)
    reason: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Label:
        if not self.from_ < self.until:
            raise ValueError("from is not before until: swap or correct them")
        return self

    @property
    def from_at(self) -> int:
        """Microseconds since 1970 UTC."""
        return (self.from_ - EPOCH) // MICROSECOND

    @property
    def until_at(self) -> int:
        """Microseconds since 1970 UTC."""
        return (self.until - EPOCH) // MICROSECOND


class Labels(Strict):
    """The whole file."""

    labels: tuple[Label, ...]


def read_labels(path: Path, cell: Cell) -> tuple[Label, ...]:
    """Read the labels of a cell.

    Raises:
        ConfigError: not TOML, not labels, or of tags that the cell does not have.
    """
    labels = parse_file(path, Labels).labels
    known = {tag.name for tag in cell.tags}
    for number, label in enumerate(labels):
        if label.tag and label.tag not in known:
            problem = f"cell {cell.id!r} has no tag {label.tag!r}"
            raise ConfigError(str(path), f"labels.{number}.tag", problem, "Correct the name, or name another cell")
    return labels
