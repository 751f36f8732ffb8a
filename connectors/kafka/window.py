"""What is on its way to `telemetry.v1`: one batch a partition at a time; and what to do about a refused message.

A partition is a lane: its next batch goes when a broker has the one before. So whatever fails, nothing behind it was
sent yet, and order holds without trusting a client's retries. While one lane waits for a leader, the others go on, as
far as the window reaches.

kafka-python fails everything behind a refused message too, with the same error. So a refusal only raises suspicion:
each suspect is sent by itself, through a producer that is new, and only what is refused then is refused.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import Any, Final

import kafka.errors as errors

from connectors.eventlog.batches import decode_columns
from connectors.kafka import dead
from connectors.kafka.codec import ARROW, Message, encode_message
from connectors.kafka.spool import SMALL_BYTES_MAX, Spool
from connectors.kafka.spoolfiles import Stored, head_of
from schemas.errors import CodecError
from schemas.samples import Gap
from schemas.topics import partition_of

LOG = logging.getLogger("jidoka.forward")

TOPIC: Final = "telemetry.v1"
WINDOW_BYTES_MAX: Final = 16_000_000
WINDOW_MESSAGES_MAX: Final = 4_096
"""What is in memory, sent or about to be. A lane that stands still holds the others up only when it fills all of it."""
BATCH_BYTES_MAX: Final = 512_000
"""Of one lane at a time, with headers; below what a broker takes for a partition at once."""
ROUND_S: Final = 1.0
"""Wall time to wait for the slowest lane before the others go on."""
WEDGED_S: Final = 45.0
"""Wall time after which a batch that got no answer of any kind ends the producer."""
_FOR_GOOD: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
    errors.InvalidTimestampError,
)
"""What no second attempt mends."""


@dataclass(slots=True)
class Forwarded:
    """What happened since the start, for metrics. Written by one thread."""

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


class Refusal(Exception):
    """A broker refused something that was on its way: go on with a new producer."""


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

    @property
    def waiting(self) -> bool:
        """Whether it is on its way."""
        return self.future is not None and not self.done

    @property
    def bytes_n(self) -> int:
        """What it takes, with headers, generously."""
        return len(self.message.value) + SMALL_BYTES_MAX


@dataclass(slots=True)
class Refused:
    """What is known of refused messages; outlives producers."""

    suspects: set[int] = field(default_factory=set)
    """Positions of messages of which one was refused."""
    instead: dict[int, Message | None] = field(default_factory=dict)
    """By position: what goes out in the place of a refused message; None: nothing can."""
    letters: list[tuple[int, Message]] = field(default_factory=list)
    """Dead letters to be sent, with the position that they are about."""

    def judge(self, position: int, message: Message, partition: int, error: Exception) -> int:
        """Put a gap into the place of a message that is refused by itself, or nothing if that gap is refused too.

        Returns:
            How many samples are lost by it.
        """
        reason = f"{type(error).__name__}: {error}"
        LOG.error("message %d of the spool is refused for good: %s", position, reason)
        self.suspects.discard(position)
        if position in self.instead:
            self.instead[position] = None
            return 0
        letter = dead.dead_letter(message, reason=reason, origin=f"collect {TOPIC}/{partition}")
        self.letters.append((position, letter))
        self.instead[position], samples_n = _gap_for(message, f"refused by the broker: {type(error).__name__}")
        return samples_n

    def forget(self, position: int) -> None:
        """It is acknowledged."""
        self.instead.pop(position, None)
        self.suspects.discard(position)


class Window:
    """The next messages of a spool, in order, through one producer."""

    def __init__(self, spool: Spool, producer: Any, partitions: int, refused: Refused, counters: Forwarded) -> None:
        """Begin at what is acknowledged.

        Args:
            spool: To read from and to acknowledge in.
            producer: A kafka-python producer that sends nothing before it is flushed.
            partitions: Of the topic.
            refused: Of all producers so far.
            counters: To count in.
        """
        self._spool, self._producer, self._partitions = spool, producer, partitions
        self._refused, self._counters = refused, counters
        self._read_to = spool.acknowledged
        self._sendings: list[_Sending] = []

    def fill(self) -> bool:
        """Read on, as far as the window reaches; returns whether there is anything to send."""
        window = self._sendings
        room = WINDOW_BYTES_MAX - sum(each.bytes_n for each in window)
        if room > 0 and len(window) < WINDOW_MESSAGES_MAX:
            for stored in self._spool.read(after=self._read_to, bytes_max=min(room, WINDOW_BYTES_MAX // 4)):
                partition = partition_of(stored.message.key.decode(), self._partitions)
                message = self._refused.instead.get(stored.position, stored.message)
                window.append(_Sending(stored, message or stored.message, partition, done=message is None))
                self._read_to = stored.position
        self._counters.oldest_at = head_of(window[0].stored.message)[1].at if window else None
        return bool(window)

    def go_round(self) -> None:
        """Send the next batch of every lane that has none on its way, and take what came of those that have.

        Raises:
            KafkaError: a batch failed in a way that another producer may mend.
            Refusal: something was refused for good.
        """
        suspects = self._refused.suspects
        suspect = next((each for each in self._sendings if each.stored.position in suspects and not each.done), None)
        if self._refused.letters or suspect is not None:
            self._send_alone(suspect)
        else:
            self._send_batches()
        self._flush()
        self._settle()

    def _send_batches(self) -> None:
        closed = {each.partition for each in self._sendings if each.waiting}
        bytes_n: dict[int, int] = {}
        for each in self._sendings:
            if each.done or each.partition in closed:
                continue
            size = bytes_n.get(each.partition, 0) + each.bytes_n
            if each.partition in bytes_n and size > BATCH_BYTES_MAX:
                closed.add(each.partition)
                continue
            bytes_n[each.partition] = size
            self._send(each)

    def _send_alone(self, suspect: _Sending | None) -> None:
        """Send dead letters and one suspect, with nothing else on its way."""
        if any(each.waiting for each in self._sendings):
            return
        while self._refused.letters:
            self._send_letter(*self._refused.letters[0])
            del self._refused.letters[0]
        if suspect is not None:
            self._send(suspect)

    def _send(self, each: _Sending) -> None:
        try:
            each.future = self._sent(TOPIC, each.message, each.partition)
        except _FOR_GOOD as error:  # Larger than the client takes.
            self._blame([(each, error)])
        each.sent_s = time.monotonic()
        self._counters.sent_n += 1

    def _sent(self, topic: str, message: Message, partition: int | None) -> Any:
        return self._producer.send(topic, message.value, message.key, list(message.headers), partition)

    def _send_letter(self, position: int, letter: Message) -> None:
        """Send a dead letter and wait for it; one that is refused as well is told in the process's own log only."""
        future = self._sent(dead.TOPIC, letter, None)
        self._flush()
        if not future.is_done:
            raise errors.KafkaTimeoutError(f"no answer for {ROUND_S:g} s")
        if future.failed():
            if not isinstance(future.exception, _FOR_GOOD):
                raise future.exception
            LOG.error("the dead letter of message %d is refused too: %s", position, future.exception)
            del self._refused.letters[0]
            raise Refusal

    def _flush(self) -> None:
        """Let everything go, and wait for answers; what has none by then is seen at the futures."""
        with contextlib.suppress(errors.KafkaError):
            self._producer.flush(ROUND_S)

    def _settle(self) -> None:
        failed: list[tuple[_Sending, Exception]] = []
        for each in self._sendings:
            if not each.waiting:
                continue
            if not each.future.is_done:
                if time.monotonic() - each.sent_s > WEDGED_S:
                    raise errors.KafkaTimeoutError(f"no answer for {WEDGED_S:g} s")
            elif each.future.succeeded():
                each.done = True
                self._counters.acknowledged_n += 1
                self._refused.suspects.discard(each.stored.position)
            else:
                failed.append((each, each.future.exception))
        self._acknowledge()
        if failed:
            self._blame(failed)

    def _acknowledge(self) -> None:
        """Acknowledge what has nothing open before it."""
        window = self._sendings
        done_n = next((n for n, each in enumerate(window) if not each.done), len(window))
        self._spool.acknowledge(each.stored for each in window[:done_n])
        for each in window[:done_n]:
            self._refused.forget(each.stored.position)
        del window[:done_n]

    def _blame(self, failed: list[tuple[_Sending, Exception]]) -> None:
        """Suspect what failed, or judge what failed by itself.

        Raises:
            KafkaError: it failed for another reason.
            Refusal: else.
        """
        for _, error in failed:
            # Of a batch with a bad record, the good ones fail too, with the plain class.
            if not isinstance(error, _FOR_GOOD) and type(error) is not errors.KafkaError:
                raise error
        each, error = failed[0]
        position = each.stored.position
        alone = len(failed) == 1 and position in self._refused.suspects
        self._refused.suspects |= {suspect.stored.position for suspect, _ in failed}
        if alone:
            self._counters.refused_n += position not in self._refused.instead
            self._counters.lost_samples_n += self._refused.judge(position, each.message, each.partition, error)
        raise Refusal


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
