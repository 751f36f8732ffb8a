"""Reads a plant's own topics for one cell, in a thread of its own, and hands over to an event loop.

It never writes to them. What is handed over keeps the order of each partition; while the other side is behind, nothing
is fetched, but the group is kept. Positions are committed only when told so, and after the letters that belong before
them: that is `connectors.kafka.committing`'s. Whatever happens to a consumer, the next one goes on behind what was
handed over.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal

import kafka.errors as errors
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition

from connectors.clock import Clock
from connectors.kafka.admin import require_topics
from connectors.kafka.committing import PASSING, Committer
from connectors.kafka.connection import connect, translate
from connectors.kafka.handover import CaughtUp, Handover, Polled, Reads, Skipped
from connectors.kafka.rejoining import join_to_the_end
from connectors.kafka.sole_reader import SoleReader
from connectors.kafka.starting import Start, start_of
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings

LOG = logging.getLogger("jidoka.plant_topics")

FETCH_BYTES_MAX: Final = 262_144
"""Of one partition at a time, or one message: partitions of a cell should come forward side by side."""
RECORDS_MAX: Final = 1_000_000
"""Of one poll: all that was fetched. A partition that is paused with a part of it still to be given out is never given
out again by kafka-python 3.0.12 (`Fetcher.fetched_records` takes a used-up one for the one in hand)."""
POLL_MS: Final = 200
"""Wall time for which one poll waits."""
ASK_S: Final = 1.0
"""Wall time between two questions where the topics end; what was there at the question is complete behind it."""
ASK_WITHIN_MS: Final = 2_000
"""Wall time for the answer."""
ANSWER_WITHIN_S: Final = 5.0
"""Wall time without an answer after which the broker counts as away."""
SETTLE_S: Final = 15.0
"""Wall time after an outage for the plant's own producers to send what they kept: until then the end of a topic says
nothing of what is still to come, and only what was read counts as complete."""
WEDGED_S: Final = 30.0
"""Wall time without an answer after which the consumer is given up for a new one."""
BACKOFF_S, BACKOFF_S_MAX = 0.2, 2.0
"""Wall time before the second attempt to reach a broker, doubled with each one up to the bound."""
CLOSE_MS: Final = 2_000
"""Wall time for a consumer to leave its group."""
CONSUMER: Final[Mapping[str, Any]] = {
    "enable_auto_commit": False,
    # Where to begin is decided here, and a deleted stretch is told, not jumped over.
    "auto_offset_reset": "none",
    "isolation_level": "read_committed",
    "allow_auto_create_topics": False,
    "max_poll_records": RECORDS_MAX,
    "max_partition_fetch_bytes": FETCH_BYTES_MAX,
    # Topics and partitions that were just made are noticed so soon; a reader that saw none of them gets none.
    "metadata_max_age_ms": 5_000,
    # A fetch that was on its way when the broker went is waited for so long.
    "request_timeout_ms": 5_000,
    "metrics_enabled": False,
}
"""How the consumer is set up, whatever the connection."""
_UNPLACED: Final = (errors.NoOffsetForPartitionError, errors.OffsetOutOfRangeError)
Doing = Literal["reading", "committing"]


class PlantReader(threading.Thread, ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Runs until `stop`."""

    def __init__(
        self,
        cell_id: str,
        first: Mapping[str, Literal["latest", "earliest"]],
        settings: KafkaSettings,
        clock: Clock,
        *,
        epoch: int,
        collected: bool,
    ) -> None:
        """Prepare; nothing is connected before `start`.

        Args:
            cell_id: Whose topics; of several processes that read them, the one with the highest epoch does.
            first: The topics, and where the very first start begins.
            settings: Brokers and security.
            clock: Agent time.
            epoch: Of this start.
            collected: Whether the topics of the cell were read before.
        """
        super().__init__(name=f"read-{cell_id}", daemon=True)
        self.group = f"jidoka-collect-{cell_id}"
        self._faults: dict[Doing, str] = {"reading": "not connected yet"}
        self.handover, self.committer = Handover(), Committer(settings)
        """What was read, for the other side; and what that says is safe."""
        self.reconnects_n = 0
        """Consumers that were given up."""
        self._first, self._settings, self._clock = first, settings, clock
        self._epoch, self._collected = epoch, collected
        self._stopping = threading.Event()
        self._held: frozenset[TopicPartition] = frozenset()
        # Of the thread alone.
        self._consumer: Any = None
        self._read: dict[TopicPartition, int] = {}
        self._unplaced: set[TopicPartition] = set()
        self._targets: dict[TopicPartition, tuple[int, int]] = {}
        self._asked_s = self._answered_s = self._settled_s = -float("inf")
        self._troubled = False

    # ---- the other side

    def begin(self) -> None:
        """Start, and hand over to the running event loop."""
        self.handover.begin()
        self.start()

    @property
    def fault(self) -> str:
        """Why nothing can be read or noted as read now; empty: all goes well."""
        return "; ".join(fault for fault in self._faults.values() if fault)

    @property
    def answering(self) -> bool:
        """Whether the broker answered lately and lets us read."""
        return time.monotonic() - self._answered_s <= ANSWER_WITHIN_S

    def hold(self, places: Iterable[Any]) -> None:
        """Do not fetch from these for now."""
        self._held = frozenset(places)

    def stop(self) -> None:
        """End after the present round."""
        self._stopping.set()

    # ---- ConsumerRebalanceListener: called within poll; what follows is done behind it

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Leave what is somebody else's now."""
        join_to_the_end(self._consumer)
        self.committer.forget(revoked)
        for place in revoked:
            self._targets.pop(place, None)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Note what must be placed."""
        self._unplaced = set(assigned)
        self.handover.put(Reads(tuple(sorted(assigned))))

    # ---- the thread

    def run(self) -> None:
        """Read for ever."""
        backoff_s = BACKOFF_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._with_consumer()
            except Exception as error:  # noqa: BLE001  The top of a thread: told, counted, and begun again.
                self._tell(error)
            steady = self._answered_s > began_s
            backoff_s = BACKOFF_S if steady else min(2 * backoff_s, BACKOFF_S_MAX)
            self._stopping.wait(backoff_s)
        self.committer.close()

    def _tell(self, error: Exception) -> None:
        self.reconnects_n += 1
        self._troubled = True
        self._say("reading", self._said(error, f"read {', '.join(self._first)} as {self.group}"))
        if not isinstance(error, errors.KafkaError | ConnectionFault | OSError):
            LOG.error("%s: unexpected", self.group, exc_info=error)

    def _said(self, error: Exception, doing: str) -> str:
        if isinstance(error, errors.KafkaError):
            error = translate(error, self._settings, doing=doing)
        return str(error) if isinstance(error, ConnectionFault) else f"{type(error).__name__}: {error}"

    def _say(self, doing: Doing, fault: str) -> None:
        """Take to memory why something does not go, and say it when that is news."""
        if fault != self._faults.get(doing, ""):
            LOG.log(logging.WARNING if fault else logging.INFO, "%s: %s: %s", self.group, doing, fault or "goes well")
        self._faults[doing] = fault

    def _with_consumer(self) -> None:
        """Connect and read until told to end, or until the consumer is of no use any more."""
        topics, session_ms = list(self._first), int(self._settings.session_s * 1000)
        require_topics(self._settings, topics)
        consumer = self._consumer = connect(
            KafkaConsumer,
            self._settings,
            **CONSUMER,
            group_id=self.group,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 4,
            partition_assignment_strategy=(SoleReader(self._epoch),),
        )
        try:
            consumer.subscribe(topics, listener=self)
            self._answered_s = time.monotonic()
            while not self._stopping.is_set():
                self._round(consumer)
        finally:
            self._targets.clear()
            with contextlib.suppress(errors.KafkaError):
                consumer.close(autocommit=False, timeout_ms=CLOSE_MS)

    def _round(self, consumer: Any) -> None:
        self._pause(consumer)
        try:
            polled = consumer.poll(timeout_ms=POLL_MS)
        except _UNPLACED:
            polled = {}
            self._unplaced = self._unplaced or set(consumer.assignment())
        if self._unplaced:
            # What came of these may be from another place than it should.
            polled = {place: records for place, records in polled.items() if place not in self._unplaced}
            self._place(consumer)
        for place, records in polled.items():
            self.handover.put(Polled(records))
            self._read[place] = records[-1].offset + 1
            self._answered_s = time.monotonic()
        self._ask(consumer)
        self._commit(consumer)

    def _pause(self, consumer: Any) -> None:
        """Fetch nothing while the other side is behind, and nothing from partitions that are held."""
        assigned = consumer.assignment()
        full = self.handover.full or self.committer.full
        wanted = set(assigned) if full else self._held & assigned
        paused = consumer.paused()
        if more := wanted - paused:
            consumer.pause(*more)
        if less := (paused - wanted) & assigned:
            consumer.resume(*less)

    # ---- where to read from

    def _place(self, consumer: Any) -> None:
        """Seek in every partition that was newly assigned, or is not where we thought it was."""
        places = sorted(self._unplaced & consumer.assignment())
        committed = {place: consumer.committed(place, timeout_ms=ASK_WITHIN_MS) for place in places}
        begins = consumer.beginning_offsets(places, timeout_ms=ASK_WITHIN_MS) if places else {}
        ends = consumer.end_offsets(places, timeout_ms=ASK_WITHIN_MS) if places else {}
        known = {place: _newest(self._read.get(place), committed[place]) for place in places}
        topics_known = {place.topic for place, offset in known.items() if offset is not None}
        starts = {
            place: start_of(
                known[place],
                begins[place],
                ends[place],
                first=self._first[place.topic],
                grown=place.topic in topics_known,
                collected=self._collected,
            )
            for place in places
        }
        self.committer.begin(
            consumer,
            {place: start.offset for place, start in starts.items() if start.new},
            {place: offset for place, offset in committed.items() if offset is not None},
        )
        for place, start in starts.items():
            consumer.seek(place, start.offset)
            self._placed(place, start)
        self._unplaced.clear()

    def _placed(self, place: TopicPartition, start: Start) -> None:
        self._read[place] = start.offset
        self._targets.pop(place, None)
        if start.lost:
            reason = f"{place.topic}/{place.partition}: {start.lost}"
            LOG.error("%s: %s; reading goes on at %d", self.group, reason, start.offset)
            self.handover.put(Skipped(place, reason))

    # ---- how far it is

    def _ask(self, consumer: Any) -> None:
        """Ask each second where the partitions end, and tell of those that are read that far."""
        now_s, assigned = time.monotonic(), consumer.assignment()
        if now_s - self._asked_s >= ASK_S:
            self._asked_s = now_s
            at = self._clock.now_us()
            try:
                ends = consumer.end_offsets(sorted(assigned), timeout_ms=ASK_WITHIN_MS) if assigned else {}
            except errors.KafkaTimeoutError:
                self._no_answer()
            else:
                self._answered(consumer, bool(assigned))
                # An older question that is not reached yet stays: it is nearer.
                self._targets = {place: self._targets.get(place, (end, at)) for place, end in ends.items()}
        if now_s < self._settled_s:
            self._targets.clear()
        for place, (end, at) in list(self._targets.items()):
            if place in assigned and place not in self._unplaced and (consumer.position(place) or 0) >= end:
                del self._targets[place]
                self.handover.put(CaughtUp(place, at))

    def _answered(self, consumer: Any, assigned: bool) -> None:
        if assigned:
            self._answered_s = time.monotonic()
            self._say("reading", "")
            if self._troubled:
                self._troubled, self._settled_s = False, self._answered_s + SETTLE_S
        elif time.monotonic() - self._answered_s > ANSWER_WITHIN_S:
            self._say(
                "reading", "no partition is ours: another process reads for this cell, or the group is not settled yet"
            )

    def _no_answer(self) -> None:
        self._troubled = True
        silent_s = time.monotonic() - self._answered_s
        fault = f"{', '.join(self._settings.bootstrap)}: no answer for {silent_s:.0f} s"
        if silent_s > WEDGED_S:
            raise ConnectionFault(f"{fault}: connecting anew")
        if silent_s > ANSWER_WITHIN_S and not self._faults["reading"]:
            self._say("reading", fault)

    # ---- what is safe

    def _commit(self, consumer: Any) -> None:
        try:
            self.committer.send(consumer)
        except PASSING as error:
            self._say("committing", self._said(error, f"commit for {self.group}"))
        else:
            self._say("committing", "")


def _newest(*offsets: int | None) -> int | None:
    return max((offset for offset in offsets if offset is not None), default=None)
