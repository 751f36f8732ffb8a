"""Sends what the spool has synced to `telemetry.v1`, in order, for as long as it takes. A thread of its own.

Whatever happens to a producer, the next one begins at the acknowledged position; what is sent twice, receivers drop.
What is on its way at a time, and in which order, is `connectors.kafka.window`'s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import kafka.errors as errors
from kafka import KafkaProducer

from connectors.kafka import dead
from connectors.kafka.closing import give_up_producer
from connectors.kafka.connection import connect, translate
from connectors.kafka.spool import Spool
from connectors.kafka.window import TOPIC, Forwarded, Refusal, Refused, Window
from schemas.errors import ConfigError, ConnectionFault, LogError
from schemas.settings import KafkaSettings

LOG = logging.getLogger("jidoka.forward")

IDLE_S: Final = 0.2
"""Wall time to wait for news of the spool before looking again."""
NOTE_S: Final = 1.0
"""Wall time between two notes of what was acknowledged."""
BACKOFF_S, BACKOFF_S_MAX = 0.2, 2.0
"""Wall time before the second attempt to reach a broker, doubled with each one up to the bound."""
CLOSE_S: Final = 5.0
"""Wall time for a producer's thread to end."""
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
    "metrics_enabled": False,
}
"""How the producer is set up, whatever the connection."""


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
        self._refused = Refused()
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
            except Refusal:
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
            give_up_producer(producer, CLOSE_S)

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
        window = Window(self._spool, producer, self._partitions, self._refused, self.counters)
        while not self._ended():
            self._spool.news.clear()
            some = window.fill()
            self._note()
            if some:
                window.go_round()
            else:
                self._spool.news.wait(IDLE_S)

    def _note(self) -> None:
        if time.monotonic() - self._noted_s >= NOTE_S:
            self._spool.note()
            self._noted_s = time.monotonic()
