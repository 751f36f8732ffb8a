"""What a decision service writes while the broker is away comes, in order, when it is there again."""

from __future__ import annotations

import asyncio
from itertools import groupby
from types import SimpleNamespace

import pytest

from connectors.clock import SystemClock
from connectors.kafka.admin import apply_topics
from connectors.kafka.codec import decode_message
from connectors.kafka.connection import client_arguments
from connectors.kafka.reading import read_range
from pipelines.stages import upstream
from pipelines.stages.upstream import TELEMETRY, Upstream
from schemas.samples import AGENT, Control
from schemas.topics import partition_of
from tests.support.kafka_broker import own_broker, plain, settings_of
from tests.support.kafka_faults.line import configure

WALL_S = {"BLOCK_S": 2.0, "REQUEST_S": 3.0, "DELIVERY_S": 6.0}
"""A third of what they are: a broker that comes back has to keep to them beside everything else that runs."""
AWAY_S = 8.0
"""Longer than one attempt."""


def test_what_is_written_during_an_outage_comes_in_order_when_the_broker_is_there_again(tmp_path, monkeypatch, caplog):
    """Was: an outage of more than a minute ended every cell, and the service with them."""
    for name, wall_s in WALL_S.items():
        monkeypatch.setattr(upstream, name, wall_s)
    with own_broker(tmp_path / "kafka") as cluster:
        settings = settings_of(cluster)
        apply_topics(settings)
        configuration = configure(tmp_path / "config", cluster, cells_n=1)
        cell = configuration.plant.cells[0]
        service = SimpleNamespace(epoch=3, derivation=SimpleNamespace(rules=configuration.rules_for(cell)))

        async def go() -> None:
            writing = Upstream(client_arguments(settings), settings.partitions, SystemClock())
            try:
                await writing.publish(service, control(0))
                cluster.brokers[0].kill()
                both = asyncio.gather(*(writing.publish(service, control(n)) for n in (1, 2)))
                done, _ = await asyncio.wait([both], timeout=AWAY_S)
                assert not done, "the broker is away"
                await asyncio.to_thread(cluster.brokers[0].start)
                await asyncio.wait_for(both, 60.0)
            finally:
                await asyncio.to_thread(writing.close)

        asyncio.run(go())
        records = read_range(plain(cluster), TELEMETRY, partition_of(cell.path, settings.partitions), 0)
        came = [decode_message(each.key, each.value, tuple(each.headers)).input for each in records]
    # An attempt that was given up may have gone through: it is repeated with its number, and whoever reads drops it.
    assert [told for told, _ in groupby((each.epoch, each.seq, each.text) for each in came)] == [
        (3, n, str(n)) for n in range(3)
    ]
    assert sum("tried again until it goes" in each for each in caplog.messages) >= 1
    assert sum("goes again" in each for each in caplog.messages) == 1


def control(number: int) -> Control:
    return Control(AGENT, 0, 0, "rebaseline", (), text=str(number))


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level("WARNING", logger="jidoka.decide")
