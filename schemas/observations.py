"""What detection says of a cell's input: one observation per tick, and one per other input that led to facts.

Between processes it travels on `anomalies.v1`, in one order per cell. Each names the one before it, so that a hole
shows, and its input's position, so that a repeated one is known.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from schemas.errors import CodecError
from schemas.facts import Detected


class ObservedRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A closed row, as far as effects are verified on it."""

    group: str
    start_at: int
    """Exclusive; microseconds since 1970 UTC."""
    end_at: int
    """Inclusive."""
    values: Mapping[str, float | None]
    """By tag, those that a postcondition of the catalogue names. None: no good value."""

    def value(self, tag: str) -> float:
        """Return the tag's value, NaN if it has none."""
        value = self.values.get(tag)
        return float("nan") if value is None else value


class Observation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one input of a cell came to."""

    cell: str
    position: int
    """Of the input in the cell's one order."""
    after: int
    """Position of the observation before this one; 0 for the first."""
    at: int
    """Agent time of taking the input, microseconds since 1970 UTC; all facts carry it."""
    source: str
    """Who gave the input."""
    tick: bool
    """Whether the input was a tick: time has passed, and rows may have closed."""
    facts: tuple[Detected, ...] = ()
    rows: tuple[ObservedRow, ...] = ()
    cold: str = ""
    """Why the detectors begin anew with this input; empty: they go on. What they had open is forgotten."""
    snapshot: str = ""
    """SHA-256 of a blob with the detectors' memory after this input, now and then; empty: none."""


_DECODER = msgspec.json.Decoder(Observation)
_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode_observation(observation: Observation) -> bytes:
    """Return the bytes for the wire. Equal observations give equal bytes."""
    return _ENCODER.encode(observation)


def decode_observation(data: bytes) -> Observation:
    """Read what `encode_observation` wrote.

    Raises:
        CodecError: not JSON, or a field is missing, unknown or of the wrong type.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"not an observation: {error}") from error
