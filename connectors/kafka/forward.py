"""Sends what the spool has synced to `telemetry.v1`, in order, for as long as it takes. A thread of its own.

Each partition is a lane, and a lane has one batch on its way at a time: the next one goes when a broker has the one
before. So whatever fails, nothing behind it was sent yet, and order holds without trusting a client's retries.
While one lane waits for a leader, the others go on, as far as the window reaches. Whatever happens to a producer, the
next one begins at the acknowledged position; what is sent twice, receivers drop.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import kafka.errors as errors  # type: ignore[import-untyped]
from kafka import KafkaProducer

from connectors.eventlog.batches import decode_columns
from connectors.kafka import dead
from connectors.kafka.codec import ARROW, Message, encode_message
from connectors.kafka.connection import connect, translate
from connectors.kafka.spool import Spool
from connectors.kafka.spoolfiles import Stored, head_of
from schemas.errors import CodecError, ConfigError, ConnectionFault, LogError
from schemas.samples import Gap
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.forward")

TOPIC: Final = "telemetry.v1"
WINDOW_BYTES_MAX: Final = 16_000_000
WINDOW_MESSAGES_MAX: Final = 4_096
"""What is in memory, sent or about to be. A lane that stands still holds the others up only when it fills all of it."""
BATCH_BYTES_MAX: Final = 512_000
"""Of one lane at a time; below what a broker takes in one request for a partition."""
ROUND_S: Final = 1.0
"""Wall time to wait for the slowest lane before the others go on."""
IDLE_S: Final = 0.2
NOTE_S: Final = 1.0
"""Wall time between two notes of what was acknowledged."""
BACKOFF_S, BACKOFF_S_MAX = 0.2, 2.0
"""Wall time before the second attempt to reach a broker, doubled with each one up to the bound."""
WEDGED_S: Final = 45.0
"""Wall time after which a batch that got no answer of any kind ends the producer."""
CLOSE_S: Final = 5.0
PRODUCER: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": None,
    "allow_auto_create_topics": False,
    "batch_size": 1_000_000,
    # Lanes are flushed by hand: a batch must not leave while it is being filled.
    "linger_ms": 5_000,
    "max_request_size": 4_000_000,
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 30_000,
    "max_block_ms": 5_000,
    "bootstrap_timeout_ms": 5_000,
    "retry_backoff_ms": 100,
    "reconnect_backoff_ms": 100,
    "reconnect_backoff_max_ms": 1_000,
    "metrics_enabled": False,
}
"""How the producer is set up, whatever the connection."""
_FOR_GOOD: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
    errors.InvalidTimestampError,
)
"""What no second attempt mends."""


@dataclass(slots=True)
class Forwarded:
    """What happened since the start, for metrics. Written by the forwarder alone."""

    sent_n: int = 0
    """Messages given to a producer, repeated ones too."""
    acknowledged_n: int = 0
    retries_n: int = 0
    """Producers that were given up, and attempts to reach a broker that failed."""
    refused_n: int = 0
    """Messages that a broker refused for good; each is a dead letter and a gap."""
    lost_samples_n: int = 0
    """In those."""
    connected: bool = False
    oldest_at: int | None = None
    """Agent time of the oldest message that is not acknowledged; None: there is none."""


@dataclass(slots=True)
class _Sending:
    """A message of the window."""

    stored: Stored
    message: Message
    """What is sent: the stored one, or the gap in its place."""
    partition: int
    future: Any = None
    sent_s: float = 0.0
    done: bool = False


class _Refusal(Exception):
    """A broker refused something that was on its way."""


class Forwarder(threading.Thread):
    """Runs until `stop`, or until the spool or the configuration is at fault."""

    def __init__(self, spool: Spool, settings: KafkaSettings, *, partitions: int | None) -> None:
        """Prepare; nothing is connected before `start`.

        Args:
            spool: To read from and to acknowledge in.
            settings: Brokers and security.
            partitions: Of the topic, as configured; another number at the broker is an error, since order is by them.
                None: as many as the topic has.
        """
        super().__init__(name="forward", daemon=True)
        self._spool, self._settings, self._configured_n = spool, settings, partitions
        self._partitions = partitions or 1
        self.counters = Forwarded()
        self.fault = "not connected yet"
        """Why nothing can be sent now; empty: it can."""
        self.failure: BaseException | None = None
        """Why it ended by itself."""
        self._suspects: set[int] = set()
        """Positions of messages of which one was refused."""
        self._instead: dict[int, Message | None] = {}
        """By position: what goes out in the place of a refused message; None: nothing can."""
        self._letters: list[tuple[int, Message]] = []
        """Dead letters to be sent, with the position that they are about."""
        self._stopping = threading.Event()
        self._stop_by_s = 0.0
        self._noted_s = 0.0

    def stop(self, *, within_s: float) -> None:
        """Send what is synced, as far as it goes in this time, and end."""
        self._stop_by_s = time.monotonic() + within_s
        self._stopping.set()
        self._spool.news.set()

    def run(self) -> None:
        """Send for ever."""
        backoff_s = BACKOFF_S
        while not self._ended():
            before_n = self.counters.acknowledged_n
            try:
                self._with_producer()
            except (LogError, ConfigError) as error:
                self.failure = error
                return
            except _Refusal:
                # kafka-python fails everything behind a refused message too, with the same error: begin anew.
                self.counters.retries_n += 1
                continue
            except Exception as error:  # noqa: BLE001  The top of a thread: told, counted, and begun again.
                self._tell(error)
            backoff_s = BACKOFF_S if self.counters.acknowledged_n > before_n else min(2 * backoff_s, BACKOFF_S_MAX)
            if not self._ended():
                self._pause(backoff_s)

    def _tell(self, error: Exception) -> None:
        """Count and say why there is no producer any more; again only when the reason is another."""
        self.counters.retries_n += 1
        known = isinstance(error, ConnectionFault | errors.KafkaError | OSError)
        fault = str(error) if isinstance(error, ConnectionFault) else f"{type(error).__name__}: {error}"
        if fault != self.fault:
            LOG.warning("%s cannot be sent to: %s", TOPIC, fault, exc_info=None if known else error)
        self.fault = fault

    def _pause(self, for_s: float) -> None:
        until_s = time.monotonic() + for_s
        while (rest_s := until_s - time.monotonic()) > 0 and not self._ended():
            time.sleep(min(rest_s, 0.05))
            self._note()

    def _ended(self) -> bool:
        if not self._stopping.is_set():
            return False
        return self._spool.acknowledged >= self._spool.synced or time.monotonic() > self._stop_by_s

    def _with_producer(self) -> None:
        """Connect and send until told to end, or until the producer is of no use any more."""
        producer = connect(KafkaProducer, self._settings, **PRODUCER)
        try:
            self._check_topics(producer)
            self.fault, self.counters.connected = "", True
            LOG.info("sending to %s", TOPIC)
            self._forward(producer)
        finally:
            self.counters.connected = False
            _close(producer)

    def _check_topics(self, producer: Any) -> None:
        found_n, _ = (self._partitions_of(producer, name) for name in (TOPIC, dead.TOPIC))
        self._partitions = found_n
        if self._configured_n not in (found_n, None):
            raise ConfigError(
                "jidoka.toml",
                "kafka.partitions",
                f"{self._configured_n}, and {TOPIC} has {found_n}",
                "Write the number that the topic was created with: a cell's place depends on it",
            )

    def _partitions_of(self, producer: Any, name: str) -> int:
        try:
            return len(producer.partitions_for(name))
        except errors.KafkaTimeoutError as error:
            where = ", ".join(self._settings.bootstrap)
            raise ConnectionFault(f"{where}: there is no topic {name}. Run: jidoka topics apply.") from error
        except errors.KafkaError as error:
            raise translate(error, self._settings, doing=f"use {name}") from error

    def _forward(self, producer: Any) -> None:
        window: list[_Sending] = []
        read_to = self._spool.acknowledged
        while not self._ended():
            self._spool.news.clear()
            read_to = self._fill(window, read_to)
            self.counters.oldest_at = head_of(window[0].stored.message)[1].at if window else None
            self._note()
            if not window:
                self._spool.news.wait(IDLE_S)
                continue
            suspect = next((each for each in window if each.stored.position in self._suspects and not each.done), None)
            if self._letters or suspect is not None:
                self._send_alone(producer, window, suspect)
            else:
                self._send(producer, window)
            _flush(producer)
            self._settle(window)

    def _fill(self, window: list[_Sending], read_to: int) -> int:
        """Read on, as far as the window reaches; returns the position that was read last."""
        room = WINDOW_BYTES_MAX - sum(len(each.message.value) for each in window)
        if room <= 0 or len(window) >= WINDOW_MESSAGES_MAX:
            return read_to
        for stored in self._spool.read(after=read_to, bytes_max=min(room, WINDOW_BYTES_MAX // 4)):
            partition = partition_of(stored.message.key.decode(), self._partitions)
            message = self._instead.get(stored.position, stored.message)
            window.append(_Sending(stored, message or stored.message, partition, done=message is None))
            read_to = stored.position
        return read_to

    def _send(self, producer: Any, window: list[_Sending]) -> None:
        """Give the producer the next batch of every lane that has none on its way."""
        closed = {each.partition for each in window if each.future is not None and not each.done}
        bytes_n: dict[int, int] = {}
        for each in window:
            if each.done or each.partition in closed:
                continue
            size = bytes_n.get(each.partition, 0) + len(each.message.value)
            if each.partition in bytes_n and size > BATCH_BYTES_MAX:
                closed.add(each.partition)
                continue
            bytes_n[each.partition] = size
            self._send_one(producer, each)

    def _send_alone(self, producer: Any, window: list[_Sending], suspect: _Sending | None) -> None:
        """Find the one that is refused: every suspect goes by itself, with nothing else on its way."""
        if any(each.future is not None and not each.done for each in window):
            return
        while self._letters:
            self._send_letter(producer, *self._letters[0])
            del self._letters[0]
        if suspect is not None:
            self._send_one(producer, suspect)

    def _send_one(self, producer: Any, each: _Sending) -> None:
        try:
            each.future = self._sent(producer, TOPIC, each.message, each.partition)
        except _FOR_GOOD as error:  # Larger than the client takes.
            self._refused([(each, error)])
        each.sent_s = time.monotonic()
        self.counters.sent_n += 1

    def _sent(self, producer: Any, topic: str, message: Message, partition: int | None) -> Any:
        return producer.send(
            topic, message.value, message.key, list(message.headers), partition, timestamp_ms=_timestamp_ms(message)
        )

    def _settle(self, window: list[_Sending]) -> None:
        """Take what came of the batches on their way; acknowledge what has nothing open before it.

        Raises:
            KafkaError: a batch failed in a way that another producer may mend.
            _Refusal: something was refused for good.
        """
        failed: list[tuple[_Sending, Exception]] = []
        for each in window:
            if each.done or each.future is None:
                continue
            if not each.future.is_done:
                if time.monotonic() - each.sent_s > WEDGED_S:
                    raise errors.KafkaTimeoutError(f"no answer for {WEDGED_S:g} s")
            elif each.future.succeeded():
                each.done = True
                self.counters.acknowledged_n += 1
                self._suspects.discard(each.stored.position)
            else:
                failed.append((each, each.future.exception))
        self._acknowledge(window)
        if failed:
            self._refused(failed)

    def _acknowledge(self, window: list[_Sending]) -> None:
        done_n = next((n for n, each in enumerate(window) if not each.done), len(window))
        self._spool.acknowledge(each.stored for each in window[:done_n])
        for each in window[:done_n]:
            self._instead.pop(each.stored.position, None)
            self._suspects.discard(each.stored.position)
        del window[:done_n]

    def _refused(self, failed: list[tuple[_Sending, Exception]]) -> None:
        """Suspect what failed, or judge what failed by itself; either way with a new producer.

        Raises:
            KafkaError: it failed for another reason.
            _Refusal: else.
        """
        for _, error in failed:
            # Of a batch with a bad record, the good ones fail too, with the plain class.
            if not isinstance(error, _FOR_GOOD) and type(error) is not errors.KafkaError:
                raise error
        each, error = failed[0]
        alone = len(failed) == 1 and each.stored.position in self._suspects
        self._suspects |= {suspect.stored.position for suspect, _ in failed}
        if alone:
            self._judge(each, error)
        raise _Refusal

    def _judge(self, each: _Sending, error: Exception) -> None:
        """Put a gap into the place of a message that is refused by itself, or nothing if that gap was refused too."""
        position, reason = each.stored.position, f"{type(error).__name__}: {error}"
        LOG.error("message %d of the spool is refused for good: %s", position, reason)
        self._suspects.discard(position)
        if position in self._instead:
            self._instead[position] = None
            return
        letter = dead.dead_letter(each.message, reason=reason, origin=f"collect {TOPIC}/{each.partition}")
        self._letters.append((position, letter))
        self._instead[position], samples_n = _gap_for(each.message, f"refused by the broker: {type(error).__name__}")
        self.counters.refused_n += 1
        self.counters.lost_samples_n += samples_n

    def _send_letter(self, producer: Any, position: int, letter: Message) -> None:
        """Send a dead letter and wait for it; one that is refused as well is told in the process's own log only."""
        future = self._sent(producer, dead.TOPIC, letter, None)
        _flush(producer)
        if not future.is_done:
            raise errors.KafkaTimeoutError(f"no answer for {ROUND_S:g} s")
        if future.failed():
            if not isinstance(future.exception, _FOR_GOOD):
                raise future.exception
            LOG.error("the dead letter of message %d is refused too: %s", position, future.exception)
            del self._letters[0]
            raise _Refusal

    def _note(self) -> None:
        if time.monotonic() - self._noted_s >= NOTE_S:
            self._spool.note()
            self._noted_s = time.monotonic()


def _gap_for(message: Message, reason: str) -> tuple[Message, int]:
    """Return the gap with the number of a message, and how many samples it stands for."""
    source, head = head_of(message)
    said = dict(message.headers)
    tags, from_at, until_at, samples_n = (), head.at, head.at, 0
    if said["content-type"] == ARROW:
        from_at, until_at, samples_n = int(said["first_at"]), int(said["last_at"]), int(said["n"])
        try:
            batch = decode_columns(message.value, source=source, epoch=head.epoch, seq=head.seq)
            tags = tuple(sorted(set(batch.tag.tolist())))
        except CodecError:
            tags = ()  # All of the cell.
    gap = Gap(source, head.epoch, head.seq, tags, from_at, until_at, reason)
    return encode_message(head.cell, head.at, gap, said["tags"].decode()), samples_n


def _timestamp_ms(message: Message) -> int:
    """Return the message's time for the broker, which keeps and deletes by it: when it was taken."""
    return max(0, head_of(message)[1].at // 1000)


def _flush(producer: Any) -> None:
    """Let everything go, and wait for answers; what has none by then is seen at the futures."""
    with contextlib.suppress(errors.KafkaError):
        producer.flush(ROUND_S)


def _close(producer: Any) -> None:
    """End a producer, whatever it has on its way."""
    # kafka-python 3.0's own close(timeout) raises and leaves its thread running when something is still on its way.
    producer._sender.force_close()
    producer._sender.join(CLOSE_S)
    producer.close(CLOSE_S)
