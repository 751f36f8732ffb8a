"""Ends kafka-python producers, whatever they have on their way."""

from __future__ import annotations

import contextlib
from typing import Any

from kafka.errors import KafkaError


def close_producer(producer: Any, within_s: float) -> None:
    """Send what goes within a time, and leave no thread behind.

    kafka-python 3.0's own `close(timeout)` raises when that is not all, and its thread then goes on sending: messages
    that were given up as not sent would come later.

    Args:
        producer: Of kafka-python; not used any more.
        within_s: Wall time, for each of sending and ending.
    """
    with contextlib.suppress(KafkaError):
        producer.flush(within_s)
    give_up_producer(producer, within_s)


def give_up_producer(producer: Any, within_s: float) -> None:
    """Let go of what is on its way, and leave no thread behind.

    Args:
        producer: Of kafka-python; not used any more.
        within_s: Wall time for its thread to end.

    Raises:
        KafkaError: it did not end in order; nothing more is sent.
    """
    producer._sender.force_close()
    producer._sender.join(within_s)
    producer.close(within_s)
