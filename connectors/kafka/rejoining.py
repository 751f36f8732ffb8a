"""One fault of kafka-python's group consumer, and the way round it.

A rebalance that begins because the client has news of the topics' partitions (at every start: it joins before it knows
them, and again when it does) is not written down as a wish to join. If `poll` then runs out of its time between the
answer to JoinGroup and that to SyncGroup, which on a busy machine it does, the next `poll` sees nothing to do: what was
dealt is never taken, and the group waits for a member whose heartbeats are off. Seen with 3.0.12
(`coordinator/base.py`, `join_group_async`); `tests/system/test_kafka_rejoining.py` shows both, and will say when it is
mended there.
"""

from __future__ import annotations

from typing import Any


def join_to_the_end(consumer: Any) -> None:
    """Write the wish to join down, until what was dealt is taken. To be called from `on_partitions_revoked`.

    Args:
        consumer: A `KafkaConsumer` that has subscribed.
    """
    consumer._coordinator.request_rejoin()
