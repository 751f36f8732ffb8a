"""What an event store keeps: facts as bytes, with their place, their time of recording and their link in the chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.facts import AnyFact, decode

Advance = Mapping[str, tuple[int, int]]
"""Input positions by source, (from, to): compare-and-set together with the facts."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One stored fact."""

    position: int
    """In the log, from 1, gapless."""
    cell: str
    version: int
    """In the cell's stream, from 1, gapless."""
    type: str
    recorded_at: int
    """Microseconds since 1970 UTC by the store's clock, never decreasing."""
    inputs: Mapping[str, int]
    """Input positions when it was concluded, by source."""
    data: bytes
    """The stored bytes; the chain covers exactly these."""
    chain: bytes
    """SHA-256 over the one before and this, 32 bytes."""

    @property
    def fact(self) -> AnyFact:
        """The fact, decoded anew at each call.

        Raises:
            CodecError: the bytes are not a fact of this version.
        """
        return decode(self.data)


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append ended up, durably."""

    version: int
    """Of the last fact."""
    position: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The cell is ours, until somebody takes it with a higher epoch."""

    epoch: int
    version: int
    positions: Mapping[str, int]
    """Input positions by source."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The log's end, signed, so that a cut tail shows."""

    log_id: str
    position: int
    chain: bytes
    signed_at: int
    signature: bytes
    """Ed25519 over the text of the four fields above, 64 bytes."""
    public_key: bytes


@dataclass(frozen=True, slots=True)
class SavedState:
    """A cell's detectors as they stood after an input, so that another process can go on from there."""

    position: int
    """Of the last input in it, in the cell's one order."""
    offset: int
    """Of the last message of the partition in it."""
    data: bytes
