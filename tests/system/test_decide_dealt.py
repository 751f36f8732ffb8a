"""A decision service to which a group deals nothing, or whose client hangs, ends itself and says why."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaConsumer
from kafka.coordinator.assignors.range import RangePartitionAssignor

from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from pipelines import deciding as service
from pipelines.commands.run import parts_of
from pipelines.config import Configuration
from pipelines.deciding import deciding, until_failure
from pipelines.stages import consumer as stage
from pipelines.stages.consumer import GROUP
from pipelines.stages.deciding import ANOMALIES, OPERATORS
from schemas.errors import ConnectionFault
from tests.support.kafka_broker import emptied, plain, settings_of
from tests.support.kafka_faults.line import configure

PATIENCE_S = 7.0
"""Of the group with a member that does not join again."""
WITHIN_S = 60.0


@contextmanager
def hung_member(cluster: Cluster) -> Iterator[KafkaConsumer]:
    """A member of the group whose heart beats and who never joins again: the others wait for it."""
    consumer = KafkaConsumer(
        **plain(cluster), group_id=GROUP, session_timeout_ms=6_000, heartbeat_interval_ms=1_000,
        max_poll_interval_ms=600_000, enable_auto_commit=False,
        partition_assignment_strategy=(RangePartitionAssignor,),
    )  # fmt: skip
    consumer.subscribe([ANOMALIES, OPERATORS])
    until_s = time.monotonic() + WITHIN_S
    while not consumer.assignment():
        assert time.monotonic() < until_s, "nothing was dealt to the first member"
        consumer.poll(timeout_ms=100)
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False)


async def run(configuration: Configuration, hung: threading.Event | None = None) -> set[str]:
    """Run until it has cells, and return them, or until it ends itself; `hung` is what it hangs at until then."""
    async with deciding(configuration, configuration.settings.kafka, parts_of(configuration)) as running:
        ending = asyncio.ensure_future(until_failure(running))
        while not ending.done():
            if running.decider.services and hung is None:
                ending.cancel()
                return set(running.decider.services)
            await asyncio.sleep(0.1)
        if hung is not None:
            hung.set()
        await ending
    return set()


def test_a_service_that_is_dealt_nothing_for_too_long_ends_itself_and_the_next_one_has_its_cells(
    kafka_broker, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(stage, "dealt_within_s", lambda settings: PATIENCE_S)
    apply_topics(settings_of(emptied(kafka_broker)))
    configuration = configure(tmp_path / "config", kafka_broker, cells_n=1)
    bound_s = stage.dealt_bound_s(configuration.settings.kafka)
    with hung_member(kafka_broker):
        began_s = time.monotonic()
        with pytest.raises(ConnectionFault, match=f"no partitions were dealt to us or to others for {bound_s:g} s"):
            asyncio.run(asyncio.wait_for(run(configuration), WITHIN_S))
        assert time.monotonic() - began_s >= bound_s
        # Whoever looks for the cause finds where each thread stood.
        assert "stages/consumer.py" in capfd.readouterr().err
    assert asyncio.run(asyncio.wait_for(run(configuration), WITHIN_S)) == {configuration.plant.cells[0].path}


def test_a_poll_comes_back_while_the_group_waits_for_another_member(kafka_broker, tmp_path):
    """Else a service that waits its turn would be taken for hung, and leave another dead member for the next one."""
    apply_topics(settings_of(emptied(kafka_broker)))
    configuration = configure(tmp_path / "config", kafka_broker, cells_n=1)

    async def go() -> None:
        async with deciding(configuration, configuration.settings.kafka, parts_of(configuration)) as running:
            consumer = running.consumer
            while not consumer._began:
                await asyncio.sleep(0.1)
            seen = []
            for _ in range(20):
                seen.append(consumer.polls_n)
                await asyncio.sleep(0.25)
            assert consumer._joining_s is not None, "it was dealt something: nobody was waited for"
            assert seen[-1] - seen[0] > 10

    with hung_member(kafka_broker):
        asyncio.run(asyncio.wait_for(go(), WITHIN_S))


def test_a_service_whose_coordinator_is_not_found_ends_itself_before_anybody_waits_for_it(
    kafka_broker, tmp_path, monkeypatch
):
    """Seen on a busy machine: the library slept at its start and was never woken up."""

    class Asleep(KafkaConsumer):
        def poll(self, timeout_ms: int = 0, **arguments: object) -> dict[object, object]:
            time.sleep(timeout_ms / 1000)
            return {}

    monkeypatch.setattr(stage, "KafkaConsumer", Asleep)
    monkeypatch.setattr(stage, "SOUGHT_WITHIN_S", 2.0)
    apply_topics(settings_of(emptied(kafka_broker)))
    configuration = configure(tmp_path / "config", kafka_broker, cells_n=1)
    with pytest.raises(ConnectionFault, match="its coordinator was not asked within 2 s"):
        asyncio.run(asyncio.wait_for(run(configuration), WITHIN_S))


def test_a_service_whose_client_does_not_come_back_from_a_poll_ends_itself(kafka_broker, tmp_path, monkeypatch, capfd):
    """Was: nothing was decided any more, for ever, and only a person could end it."""
    released = threading.Event()

    class Hanging(KafkaConsumer):
        def poll(self, **arguments: object) -> object:
            polled = super().poll(**arguments)
            if self.assignment():
                released.wait(WITHIN_S)
            return polled

    monkeypatch.setattr(stage, "KafkaConsumer", Hanging)
    monkeypatch.setattr(service, "HUNG_S", 2.0)
    apply_topics(settings_of(emptied(kafka_broker)))
    configuration = configure(tmp_path / "config", kafka_broker, cells_n=1)
    with pytest.raises(ConnectionFault, match="does not come back from a poll for 2 s"):
        asyncio.run(asyncio.wait_for(run(configuration, released), WITHIN_S))
    assert "stages/consumer.py" in capfd.readouterr().err
