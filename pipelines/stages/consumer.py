"""The decision service's member of the consumer group that deals the partitions of cells among processes.

Offsets of `anomalies.v1` are never committed: where a cell goes on is in the store. Those of `operator-requests.v1`
are, each behind requests that are durable facts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from connectors.kafka.rejoining import join_to_the_end
from pipelines.stages.deciding import ANOMALIES, OPERATORS, Decider
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings

LOG = logging.getLogger("jidoka.decide")

GROUP = "jidoka-decide"
POLL_MS = 200
"""Wall time for which one poll waits."""
POLL_MAX = 500
"""Messages in one answer of the consumer."""
REVOKE_S = 3.0
"""Wall time for cells to stop before their partition goes to another process; below the shortest session."""
SOUGHT_WITHIN_S = 15.0
"""Wall time for the library to find the group's coordinator and to begin to join, which takes well under a second."""
DEALT_WITHIN_S = 30.0
"""Wall time within which a group has dealt its partitions, at the least; see `dealt_within_s`."""
R = TypeVar("R")


def dealt_within_s(settings: KafkaSettings) -> float:
    """Return the wall time within which a group must have dealt its partitions: members that died are out by then."""
    return max(DEALT_WITHIN_S, 3 * settings.session_s)


def dealt_bound_s(settings: KafkaSettings) -> float:
    """Return the wall time after which whoever was dealt nothing ends itself.

    Longer than what the group waits for a member that died while it joined: otherwise each one that ends itself keeps
    the next one waiting until that ends itself, too.
    """
    return dealt_within_s(settings) + settings.session_s


class Consumer(threading.Thread, ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Polls in a thread of its own, and hands over to the event loop; waits while that is behind."""

    def __init__(self, decider: Decider, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare; nothing is connected before `start`.

        Args:
            decider: Takes partitions and messages.
            loop: Where the decider lives.
        """
        super().__init__(name="decide-consumer", daemon=True)
        self.failure: BaseException | None = None
        """Why it ended by itself."""
        self.polled_s = time.monotonic()
        """Wall time of the last poll."""
        self.polls_n = 0
        """Polls that were begun."""
        self.polling = False
        """Whether one is under way: it is the library's, and takes `POLL_MS` and what the group takes."""
        self._decider, self._loop = decider, loop
        self._consumer: Any = None
        self._stopping = threading.Event()
        self._joining_s: float | None = time.monotonic()
        """Wall time since which partitions are being dealt; None: they are dealt, perhaps none to us."""
        self._began = False
        """Whether the library has ever got as far as joining. Until then nobody in the group waits for us."""
        self._changes: queue.SimpleQueue[tuple[str, set[int]]] = queue.SimpleQueue()

    @property
    def stalled(self) -> ConnectionFault | None:
        """Why the group should be joined anew, by another process: partitions have been dealt for far too long."""
        if self._joining_s is None:
            return None
        since_s, bound_s = time.monotonic() - self._joining_s, dealt_bound_s(self._decider.settings)
        if not self._began and since_s > SOUGHT_WITHIN_S:
            return ConnectionFault(f"group {GROUP}: its coordinator was not asked within {SOUGHT_WITHIN_S:g} s")
        if since_s < bound_s:
            return None
        return ConnectionFault(f"group {GROUP}: no partitions were dealt to us or to others for {bound_s:g} s")

    def stop(self) -> None:
        """End after the present round."""
        self._stopping.set()

    # ConsumerRebalanceListener: called by the consumer's own thread, which sends heartbeats and joins groups.
    def on_partitions_revoked(self, revoked: Any) -> None:
        """Stop the cells before another process may have them: it waits until all have said that they did."""
        join_to_the_end(self._consumer)
        numbers = {tp.partition for tp in revoked}
        self._began, self._joining_s = True, time.monotonic()
        try:
            self._await(self._decider.revoked(sorted(numbers)), REVOKE_S)
        except TimeoutError:
            LOG.warning("cells of partitions %s do not stop; the store and the robots fence them", sorted(numbers))
        self._changes.put(("revoked", numbers))

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Note it: cells are started behind the poll, since folding a long log takes a while."""
        self._began, self._joining_s = True, None
        self._changes.put(("assigned", {tp.partition for tp in assigned}))

    def run(self) -> None:
        """Poll until told to stop."""
        settings = self._decider.settings
        consumer = self._consumer = KafkaConsumer(
            **self._decider.connection,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_s * 1000),
            heartbeat_interval_ms=int(settings.session_s * 1000 / 4),
            max_poll_records=POLL_MAX,
            # How long the others wait for one that lives and does not join again.
            max_poll_interval_ms=int(dealt_within_s(settings) * 1000),
            # Both topics have the same number of partitions: by ranges a process gets the same ones of both.
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        try:
            consumer.subscribe([ANOMALIES, OPERATORS], listener=self)
            while not self._stopping.is_set():
                self._round(consumer)
        except BaseException as error:  # noqa: BLE001  # the top of the thread: the process ends by it
            self.failure = error
        finally:
            consumer.close(autocommit=False)

    def _round(self, consumer: Any) -> None:
        self.polls_n += 1
        self.polling = True
        polled = consumer.poll(timeout_ms=POLL_MS)
        self.polling = False
        self.polled_s = time.monotonic()
        began = self._follow_changes(consumer)
        for where, records in polled.items():
            if not self._decider.has(where.partition):
                continue
            if where.topic == ANOMALIES:
                if where.partition not in began:  # Otherwise it comes again, from where the store says.
                    self._await(self._decider.observed(records))
            else:
                behind = self._await(self._decider.requested(records))
                consumer.commit_async({where: OffsetAndMetadata(behind, "", -1)})

    def _follow_changes(self, consumer: Any) -> set[int]:
        """Start and stop cells as the group's last deals say; return the partitions that begin with this."""
        began: set[int] = set()
        while True:
            try:
                kind, partitions = self._changes.get_nowait()
            except queue.Empty:
                return began
            if kind == "revoked":
                self._await(self._decider.revoked(sorted(partitions)))
                began -= partitions
                continue
            for partition in sorted(partitions):
                if not self._decider.has(partition):
                    offset = self._await(self._decider.assigned(partition))
                    began.add(partition)
                    with contextlib.suppress(ValueError):  # Dealt anew meanwhile: it is revoked next.
                        consumer.seek(TopicPartition(ANOMALIES, partition), offset)

    def _await(self, work: Coroutine[Any, Any, R], within_s: float | None = None) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)
