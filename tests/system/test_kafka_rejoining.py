"""A group consumer that polls for a short time each: what was dealt to it is taken, also where an answer came late."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kafka import ConsumerRebalanceListener, KafkaConsumer

from connectors.kafka.admin import apply_topics
from connectors.kafka.rejoining import join_to_the_end
from pipelines.stages.deciding import ANOMALIES, OPERATORS
from tests.support.kafka_broker import emptied, plain, settings_of

POLL_MS = 1
"""Shorter than any broker takes to answer: a poll always ends before."""
WITHIN_S = 20.0
LONG_S = 5.0


class Listener(ConsumerRebalanceListener):
    """Keeps to the join, or leaves it to the library."""

    def __init__(self, consumer: KafkaConsumer, *, keeps: bool) -> None:
        self._consumer, self._keeps = consumer, keeps

    def on_partitions_revoked(self, revoked: Any) -> None:
        if self._keeps:
            join_to_the_end(self._consumer)

    def on_partitions_assigned(self, assigned: Any) -> None:
        pass


@pytest.mark.parametrize("keeps", [True, False])
def test_what_is_dealt_between_two_polls_is_taken_only_if_the_join_is_kept_to(kafka_broker, keeps):
    apply_topics(settings_of(emptied(kafka_broker)))
    consumer = KafkaConsumer(**plain(kafka_broker), group_id=f"rejoining-{keeps}", enable_auto_commit=False)
    try:
        consumer.subscribe([ANOMALIES, OPERATORS], listener=Listener(consumer, keeps=keeps))
        until_s = time.monotonic() + (WITHIN_S if keeps else LONG_S)
        while not consumer.assignment() and time.monotonic() < until_s:
            consumer.poll(timeout_ms=POLL_MS)
        assert bool(consumer.assignment()) is keeps, "mended in the library: connectors/kafka/rejoining.py can go"
    finally:
        consumer.close(autocommit=False)
