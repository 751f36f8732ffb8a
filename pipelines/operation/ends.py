"""Asks the broker, now and then, where a topic ends and how far a group has committed: a thread with its own client.

By it a process knows two things that its own work does not tell: how much waits for it, and that the broker is there.
The log says when it is not, and when it is again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from connectors.kafka.outage import Outage

LOG = logging.getLogger("jidoka.broker")

LOOK_S: Final = 2.0
"""Wall time between two looks."""
ANSWER_S: Final = 5.0
"""Wall time for the broker's answer to one of them."""
FRESH_S: Final = 10.0
"""Wall time since the last answer up to which the broker counts as there."""
JOIN_S: Final = 3.0
"""Wall time for its end; it has nothing to lose, and a broker that is away must not hold up that of the process."""
CLIENT: Final[Mapping[str, Any]] = {
    "enable_auto_commit": False,
    "request_timeout_ms": int(ANSWER_S * 1000),
    "bootstrap_timeout_ms": int(ANSWER_S * 1000),
    "metrics_enabled": False,
}


@dataclass(frozen=True, slots=True)
class Look:
    """What the broker said, by partition."""

    at_s: float
    """Wall time, `time.monotonic`."""
    ends: Mapping[int, int]
    """Offset behind the last message."""
    begins: Mapping[int, int]
    """Where the group goes on: its committed offset, or the oldest message that is kept."""

    def backlog(self, partition: int, taken: int) -> int:
        """Return how many messages wait behind what was taken, 0 if that is not known."""
        return max(0, self.ends.get(partition, 0) - max(taken, self.begins.get(partition, 0)))


class Ends(threading.Thread):
    """Looks until stopped."""

    def __init__(self, connection: Mapping[str, Any], topic: str, *, group: str | None = None) -> None:
        """Prepare.

        Args:
            connection: Arguments of a Kafka client.
            topic: Its name.
            group: Whose commits are looked at; it is not joined. None: of nobody.
        """
        super().__init__(name="ends", daemon=True)
        self._connection, self._topic, self._group = connection, topic, group
        self._stopping = threading.Event()
        self._outage = Outage(LOG, f"broker {', '.join(connection['bootstrap_servers'])}")
        self.look: Look | None = None
        """The last answer."""
        self.fault = "it was not asked yet"
        """Why there is none now; empty: there is."""

    @property
    def broker(self) -> tuple[bool, str]:
        """Whether the broker answers, and in words."""
        if self.look is None:
            return False, self.fault
        age_s = time.monotonic() - self.look.at_s
        said = f"answered {age_s:.1f} s ago" + (f"; since then: {self.fault}" if self.fault else "")
        return age_s <= FRESH_S, said

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def run(self) -> None:
        """Look until stopped; a client that fails is replaced."""
        while not self._stopping.is_set():
            try:
                self._looks()
            except Exception as error:  # noqa: BLE001  # kafka-python raises several families; all mean: not now
                self.fault = f"{type(error).__name__}: {error}"
                self._outage.is_on(error)
                self._stopping.wait(LOOK_S / 2)

    def _looks(self) -> None:
        consumer = KafkaConsumer(**self._connection, **CLIENT, group_id=self._group)
        try:
            while not self._stopping.is_set():
                self.look, self.fault = self._ask(consumer), ""
                self._outage.is_over()
                self._stopping.wait(LOOK_S)
        finally:
            consumer.close(autocommit=False)

    def _ask(self, consumer: Any) -> Look:
        bound_ms = int(ANSWER_S * 1000)
        places = [TopicPartition(self._topic, n) for n in sorted(consumer.partitions_for_topic(self._topic) or ())]
        ends = consumer.end_offsets(places, timeout_ms=bound_ms)
        begins = consumer.beginning_offsets(places, timeout_ms=bound_ms)
        if self._group is not None:
            committed = {place: consumer.committed(place, timeout_ms=bound_ms) for place in places}
            begins = {place: max(begin, committed[place] or 0) for place, begin in begins.items()}
        return Look(
            time.monotonic(),
            {tp.partition: at for tp, at in ends.items()},
            {tp.partition: n for tp, n in begins.items()},
        )


@asynccontextmanager
async def looking(ends: Ends) -> AsyncIterator[None]:
    """Look until the block ends."""
    ends.start()
    try:
        yield
    finally:
        ends.stop()
        await asyncio.to_thread(ends.join, JOIN_S)
