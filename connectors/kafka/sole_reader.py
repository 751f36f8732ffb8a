"""Gives all partitions of a group to one of its members: a cell has one collector, and a second one only waits.

Shared out, each collector would have a part of the cell's samples under an epoch of its own, and whoever reads
`telemetry.v1` would drop the part with the lower one. So the member with the highest epoch has everything, as there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

VERSION: Final = 0
"""Of the members' protocol."""
EPOCH_BYTES: Final = 8


class SoleReader(AbstractPartitionAssignor):  # type: ignore[misc]  # kafka-python has no types
    """What the members of the group agree by."""

    name = "jidoka-sole"

    def __init__(self, epoch: int) -> None:
        """Tell the others our epoch.

        Args:
            epoch: Of this start of the collector.
        """
        self._epoch = epoch

    def metadata(self, topics: Collection[str]) -> Any:
        """Return what we tell of ourselves."""
        return ConsumerProtocolSubscription(VERSION, sorted(topics), self._epoch.to_bytes(EPOCH_BYTES, "big"))

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """Return each member's partitions: everything for the newest, nothing for the rest."""
        newest = max(members, key=lambda member: (_epoch_of(member), member.member_id))
        partitions = {topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in newest.metadata.topics}
        everything = sorted((topic, numbers) for topic, numbers in partitions.items() if numbers)
        return {
            member.member_id: ConsumerProtocolAssignment(VERSION, everything if member is newest else [], b"")
            for member in members
        }

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Nothing is remembered."""


def _epoch_of(member: Any) -> int:
    return int.from_bytes(member.metadata.user_data or b"", "big")
