"""The topics on Kafka, in one table. All are created beforehand; a cell's partition is `crc32(cell) % partitions`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

DAY_MS = 86_400_000
BYTES_MAX = 1_048_588
"""Of a message: Kafka's own default, written down; collectors split before it."""
OBSERVATION_BYTES_MAX = 16 * 2**20
"""A cell whose tags all begin an episode in one tick gives about 1 kB for each, and an observation is never split."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic."""

    name: str
    key: str
    """What the message key is."""
    schema: str
    """What the message value is."""
    retention_ms: int
    """-1: for ever."""
    cleanup: Literal["delete", "compact"] = "delete"
    bytes_max: int = BYTES_MAX
    """Of one message."""


TOPICS: tuple[Topic, ...] = (
    Topic("telemetry.v1", "cell path", "SampleBatch | LineEvent | Gap | Tick | Control", 7 * DAY_MS),
    Topic("line-events.v1", "cell path", "LineEvent", 90 * DAY_MS),
    Topic("anomalies.v1", "cell path", "Observation", 90 * DAY_MS, bytes_max=OBSERVATION_BYTES_MAX),
    Topic("decisions.v1", "cell path", "AnyFact", -1),
    Topic("operator-requests.v1", "cell path", "OperatorRequested", 90 * DAY_MS),
    Topic("dead-letters.v1", "key of the message that was refused", "bytes as they came", 30 * DAY_MS),
)


def partition_of(cell: str, partitions: int) -> int:
    """Return the partition in which all messages of a cell lie, of every topic.

    >>> partition_of("jidoka/demo/assembly/line1/cell1", 12)
    3
    """
    return zlib.crc32(cell.encode()) % partitions


def topic(name: str) -> Topic:
    """Return the topic of this name.

    Raises:
        KeyError: there is none.
    """
    for each in TOPICS:
        if each.name == name:
            return each
    raise KeyError(name)
