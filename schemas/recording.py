"""How a recorded file is read: its time, its columns, and what to do where it is irregular."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.plant import Strict

TimeKind = Literal["text", "s", "ms", "us", "ns"]
"""Text as in ISO 8601 (or `time_format`), or a number of seconds or parts of them since 1970 UTC."""


class RecordedColumn(Strict):
    """A column that becomes a tag."""

    column: str
    """Its header in the file."""
    tag: str
    """The tag's name in the cell."""
    factor: float = 1.0
    """What a recorded number is multiplied with to get the tag's unit."""


class RecordingMapping(Strict):
    """From a table to samples."""

    time_column: str
    time_kind: TimeKind = "text"
    time_format: str = ""
    """A `strptime` pattern for text that is not ISO 8601."""
    time_zone: str = "UTC"
    """IANA name; for times that carry no offset of their own."""
    separator: str = Field(default=",", min_length=1, max_length=1)
    """Of a CSV file."""
    columns: tuple[RecordedColumn, ...] = Field(min_length=1)
    ignore: tuple[str, ...] = ()
    """Columns known and left out: labels, remarks. A column that is neither mapped nor here is an error."""
    out_of_order: Literal["refuse", "sort"] = "refuse"
    duplicates: Literal["refuse", "last"] = "refuse"
    """Rows of the same time: refused, or the last one stands."""
    gap_factor: float = Field(default=10.0, gt=1)
    """A time step this many times longer than the median one is a gap."""
    rows_per_batch: int = Field(default=60, ge=1, le=100_000)

    @model_validator(mode="after")
    def _distinct(self) -> RecordingMapping:
        columns, tags = [c.column for c in self.columns], [c.tag for c in self.columns]
        if len(set(columns)) != len(columns) or len(set(tags)) != len(tags):
            raise ValueError("a column or a tag is mapped twice: each may occur once")
        if self.time_column in columns or set(columns) & set(self.ignore):
            raise ValueError("a column is mapped and is also the time or ignored: decide for one")
        return self
