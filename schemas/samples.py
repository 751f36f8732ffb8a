"""The ordered input of a cell: sample batches, line events, gaps, ticks and controls.

Everything that detectors may read is in one of these five, in one order per cell. The pure types only; bytes are made
in `connectors.eventlog.segments` and `connectors.kafka.codec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

INPUT = "input"
"""Among the store's positions: of the last input of the cell that was concluded from."""

AGENT = "agent"
"""Source of the input that the executor gives; all but it and `WATCH` is the plant."""
WATCH = "watch"
"""Source of the tick by which the runtime says that no source says anything any more."""

STATUS_GOOD = 0x00000000
STATUS_BAD = 0x80000000

SampleField = Literal["tag", "source_at", "server_at", "value", "status"]
SAMPLE_DTYPES: dict[SampleField, type] = {
    "tag": np.uint32, "source_at": np.int64, "server_at": np.int64, "value": np.float64, "status": np.uint32,
}  # fmt: skip
"""Columns of a batch. Times are microseconds since 1970 UTC; `status` is the raw OPC UA StatusCode."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleBatch:
    """Samples of one cell, long form, in the order of arrival. All arrays have shape `(n,)`."""

    source: str
    """Who collected it, e.g. `opcua:cell1`."""
    epoch: int
    """Raised by every start of the source, so that `seq` may begin again at 0."""
    seq: int
    """Number of this message within `(source, epoch)`, shared with the other four kinds."""
    tag: NDArray[np.uint32]
    source_at: NDArray[np.int64]
    server_at: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.tag)


class LineEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="line"):
    """A production-line event: a PackML state, a batch or a changeover."""

    source: str
    epoch: int
    seq: int
    kind: Literal["packml.state", "changeover", "text"]
    source_at: int
    """Microseconds since 1970 UTC."""
    value: int
    """For `packml.state` the OPC 30050 state number, else 0."""
    text: str = ""


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="gap"):
    """Samples that nobody can recover."""

    source: str
    epoch: int
    seq: int
    tags: tuple[int, ...]
    """Tag ids; empty means all tags of the cell."""
    from_at: int
    until_at: int
    reason: str


class Tick(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="tick"):
    """A source's word that everything up to `complete_until` has been delivered."""

    source: str
    epoch: int
    seq: int
    complete_until: int
    """Microseconds since 1970 UTC, agent time of the collector less what may still be on its way."""
    alive: bool
    """Whether session and heartbeat live. While false, values are not held and rows close with NaN."""
    stale: tuple[int, ...] = ()
    """Tags that the collector found stale."""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="control"):
    """What people or the agent told the detectors; takes effect at its place in the order."""

    source: str
    epoch: int
    seq: int
    kind: Literal["rebaseline", "shelve", "unshelve", "maintenance", "label"]
    tags: tuple[int, ...]
    settle_s: float = 0.0
    """For `rebaseline`: how long the tags are left alone before their new normal is learnt."""
    until_at: int = 0
    """For `shelve` and `maintenance`: when it ends."""
    text: str = ""


Input = SampleBatch | LineEvent | Gap | Tick | Control


@dataclass(frozen=True, slots=True)
class Kept:
    """An input as the cell took it: with its place in the cell's one order and the agent's time of taking."""

    position: int
    """1 for the first input of the cell; gapless."""
    at_us: int
    """Agent time, microseconds since 1970 UTC. Facts that follow from this input carry it."""
    input: Input

    @property
    def source(self) -> str:
        """Who gave the input."""
        return self.input.source

    @property
    def places(self) -> dict[str, int]:
        """How far the input has been taken with this, by what the store calls it."""
        return {INPUT: self.position}


def is_good(status: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Tell which StatusCodes are Good: severity bits 00 (OPC 10000-4, 7.39). Uncertain is not good.

    >>> is_good(np.array([0, 0x40000000, 0x80340000], dtype=np.uint32)).tolist()
    [True, False, False]
    """
    good: NDArray[np.bool_] = (status >> np.uint32(30)) == 0
    return good
