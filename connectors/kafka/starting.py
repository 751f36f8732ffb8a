"""Where a partition of a plant's topic is read from: where we were, if that is still there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin."""

    offset: int
    lost: str = ""
    """Why messages before it are lost; empty: none are."""
    new: bool = False
    """Whether it must be noted at the broker before anything is read: a second start would choose another one."""


def start_of(
    known: int | None, begin: int, end: int, *, first: Literal["latest", "earliest"], grown: bool, collected: bool
) -> Start:
    """Choose.

    Args:
        known: Offset behind the last message that was read; None: nobody knows.
        begin: Offset of the oldest message that is kept.
        end: Offset behind the newest one.
        first: What the configuration says of the first start.
        grown: Whether the place in other partitions of the topic is known: then this partition is a new one.
        collected: Whether this collector has read the topics of the cell before.

    >>> start_of(7, 0, 9, first="latest", grown=False, collected=True)
    Start(offset=7, lost='', new=False)
    >>> start_of(None, 0, 9, first="latest", grown=False, collected=False)
    Start(offset=9, lost='', new=True)
    """
    if known is None:
        offset = begin if grown or first == "earliest" else end
        forgotten = "the broker has forgotten how far it was read" if collected and not grown else ""
        return Start(offset, forgotten, new=True)
    if known < begin:
        return Start(begin, f"messages {known} to {begin - 1} were deleted before they were read")
    if known > end:
        return Start(begin, f"it was read up to message {known} and ends at {end}: it was made anew, or cut")
    return Start(known)
