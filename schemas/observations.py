"""What detection says of a cell's input: one observation per tick, and one per other input that led to facts.

Between processes it travels on `anomalies.v1`, in one order per cell. Each names the one before it, so that a hole
shows, and its input's position, so that a repeated one is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from schemas.errors import CodecError
from schemas.facts import Detected
from schemas.samples import INPUT

OFFSET = "anomalies.v1"
"""Among the store's positions: the offset of the last observation that was decided upon, plus one."""
BEGUN = "detection"
"""Among the store's positions: when the detectors began whose observations are decided upon."""


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
    begun_at: int
    """Agent time of the first input that these detectors saw. Detectors that began later replace those before, and know
    nothing of what those had open."""
    source: str
    """Who gave the input."""
    tick: bool
    """Whether the input was a tick: time has passed, and rows may have closed."""
    facts: tuple[Detected, ...] = ()
    rows: tuple[ObservedRow, ...] = ()
    snapshot: str = ""
    """SHA-256 of a blob with the memory of detection after this input, now and then; empty: none."""


_COUNT = range(2**63)
_DECODER = msgspec.json.Decoder(Observation)
_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode_observation(observation: Observation) -> bytes:
    """Return the bytes for the wire. Equal observations give equal bytes."""
    return _ENCODER.encode(observation)


def decode_observation(data: bytes) -> Observation:
    """Read what `encode_observation` wrote.

    Raises:
        CodecError: not JSON, or a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        observation = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"not an observation: {error}") from error
    numbers = (observation.position, observation.after, observation.at, observation.begun_at)
    if not all(number in _COUNT for number in numbers):
        raise CodecError(f"not an observation: position, after, at, begun_at {numbers}: out of range")
    return observation


@dataclass(frozen=True, slots=True)
class Delivered:
    """An observation as the decision service got it."""

    offset: int
    """Of its message in the cell's partition."""
    observation: Observation

    @property
    def position(self) -> int:
        """Of the input in the cell's one order."""
        return self.observation.position

    @property
    def at_us(self) -> int:
        """Agent time of taking the input, microseconds since 1970 UTC."""
        return self.observation.at

    @property
    def source(self) -> str:
        """Who gave the input."""
        return self.observation.source

    @property
    def places(self) -> dict[str, int]:
        """How far the input has been taken with this, by what the store calls it."""
        return {INPUT: self.position, OFFSET: self.offset + 1, BEGUN: self.observation.begun_at}
