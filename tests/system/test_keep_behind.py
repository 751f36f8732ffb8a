"""A keeper that was away for longer than the topic keeps: what it keeps then bears the numbers that detection gave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from kafka import TopicPartition

from connectors.eventlog.segment_reading import Stretch, read_kept, stretches
from pipelines.config import Configuration
from pipelines.hosting import Folders
from pipelines.keeping import keeping
from pipelines.stages.detect import GROUP, IN
from tests.support.kafka_broker import admin_of
from tests.support.workers import T0, WITHIN_S, S, committed, configured, produce, running, ticks, two_cells, wait_until

# On a busy machine a socket of one of the clients is now and then left to the collector; which, is not known.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)

KEPT_N, DETECTED_N, MESSAGES_N = 5, 15, 20
DELETED_TO = 10
"""Offset before which the topic has nothing any more: later than what was kept, and earlier than what was detected."""


def keep_until(configuration: Configuration, done: Callable[[], bool]) -> None:
    """Run a keeper until there is what is waited for."""

    async def go() -> None:
        task = asyncio.ensure_future(keeping(configuration, configuration.settings.kafka))
        async with asyncio.timeout(WITHIN_S):
            while not task.done() and not done():
                await asyncio.sleep(0.1)
        if task.done():
            await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(go())


def test_a_keeper_that_starts_after_detection_keeps_all_that_the_topic_has(kafka_broker, tmp_path):
    """Was: it began where detection had saved, so that nothing could be re-run until a snapshot was due."""
    configuration = configured(kafka_broker, tmp_path / "config")
    cell, _, partition = two_cells(configuration)
    folder = Folders(configuration.data).segments(cell)
    produce(kafka_broker, IN, partition, ticks(cell, range(DETECTED_N)))
    with running("whole", str(tmp_path / "config")):
        wait_until(lambda: committed(kafka_broker, GROUP, IN, partition) == DETECTED_N, "the commit of all")
    keep_until(configuration, lambda: stretches(folder) == [Stretch(1, DETECTED_N)])


def test_what_the_topic_deleted_before_it_was_kept_is_a_hole_and_shifts_no_number(kafka_broker, tmp_path):
    """Was: the first message that was left came under the number of the first one that was deleted."""
    configuration = configured(kafka_broker, tmp_path / "config")
    cell, _, partition = two_cells(configuration)
    folder = Folders(configuration.data).segments(cell)

    def kept_n() -> int:
        return max((stretch.last for stretch in stretches(folder)), default=0)

    produce(kafka_broker, IN, partition, ticks(cell, range(KEPT_N)))
    keep_until(configuration, lambda: kept_n() >= KEPT_N)
    produce(kafka_broker, IN, partition, ticks(cell, range(KEPT_N, DETECTED_N)))
    with running("whole", str(tmp_path / "config")):
        wait_until(lambda: committed(kafka_broker, GROUP, IN, partition) == DETECTED_N, "the commit of all")
    with admin_of(kafka_broker) as admin:
        admin.delete_records({TopicPartition(IN, partition): DELETED_TO})
    produce(kafka_broker, IN, partition, ticks(cell, range(DETECTED_N, MESSAGES_N)))
    keep_until(configuration, lambda: kept_n() >= MESSAGES_N)

    assert stretches(folder) == [Stretch(1, KEPT_N), Stretch(DETECTED_N + 1, MESSAGES_N)]
    # Tick n was the input n + 1, as detection numbered it.
    kept = list(read_kept(folder, after=DETECTED_N))
    assert [(each.position, each.input.complete_until) for each in kept] == [
        (n + 1, T0 + n * S) for n in range(DETECTED_N, MESSAGES_N)
    ]
