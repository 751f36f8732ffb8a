"""Puts messages that could not be used onto `dead-letters.v1`. Connects when there is something to send."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import kafka.errors as errors
from kafka import KafkaProducer

from connectors.kafka import dead
from connectors.kafka.closing import give_up_producer
from connectors.kafka.codec import Message
from connectors.kafka.connection import connect, translate
from schemas.settings import KafkaSettings

SEND_WITHIN_S: Final = 5.0
"""Wall time for all letters of one call."""
CLOSE_S: Final = 2.0
"""Wall time for the producer's thread to end."""
PRODUCER: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": None,
    "allow_auto_create_topics": False,
    "max_block_ms": 3_000,
    "request_timeout_ms": 3_000,
    "delivery_timeout_ms": 4_000,
    "linger_ms": 0,
    "bootstrap_timeout_ms": 5_000,
    "metrics_enabled": False,
}
"""How the producer is set up, whatever the connection."""


class Letterbox:
    """The one way there; of one thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Prepare; nothing is connected.

        Args:
            settings: Brokers and security.
        """
        self._settings = settings
        self._producer: Any = None

    def send(self, letters: Sequence[Message]) -> None:
        """Return when a broker has all of these.

        Raises:
            ConnectionFault: it has not, or not all; which ones nobody knows, and they may be sent again.
        """
        if self._producer is None:
            self._producer = connect(KafkaProducer, self._settings, **PRODUCER)
        try:
            sent = [self._producer.send(dead.TOPIC, m.value, m.key, list(m.headers)) for m in letters]
            self._producer.flush(SEND_WITHIN_S)
            for future in sent:
                future.get(timeout=0)
        except errors.KafkaError as error:
            self.close()
            raise translate(error, self._settings, doing=f"use {dead.TOPIC}") from error

    def close(self) -> None:
        """End the connection. Again is free."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(errors.KafkaError):
                give_up_producer(producer, CLOSE_S)
