"""A broker that does not take an observation: the worker ends at once, and decisions are left out of nothing."""

from __future__ import annotations

import asyncio
import time

from kafka.admin import ConfigResource, ConfigResourceType

from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from connectors.kafka.reading import read_range
from pipelines.detecting import make_app
from pipelines.stages.detect import GROUP, IN, OUT
from pipelines.stages.outgoing import UNSENT
from schemas.observations import decode_observation
from schemas.topics import OBSERVATION_BYTES_MAX
from tests.support.kafka_broker import admin_of, emptied, plain, settings_of
from tests.support.kafka_faults.line import configure
from tests.support.workers import committed, configured, produce, running, ticks, two_cells, wait_until

BEFORE_N, MESSAGES_N = 5, 10
SETTLED_S = 2.0


def take(cluster: Cluster, *, bytes_max: int) -> None:
    """Let the topic of observations take nothing that is larger."""
    with admin_of(cluster) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, OUT, {"max.message.bytes": str(bytes_max)})])


def test_a_worker_whose_observation_is_given_up_sends_and_saves_nothing_behind_it(kafka_broker, tmp_path):
    """Was: what came behind it was sent while the worker ended, and saved; so the first one was lost to decisions."""
    configuration = configured(kafka_broker, tmp_path / "config")
    cell, _, partition = two_cells(configuration)

    def how_far() -> int:
        return committed(kafka_broker, GROUP, IN, partition)

    produce(kafka_broker, IN, partition, ticks(cell, range(BEFORE_N)))
    with running("whole", str(tmp_path / "config")) as worker:
        wait_until(lambda: how_far() == BEFORE_N, "the first commit")
        take(kafka_broker, bytes_max=1)
        produce(kafka_broker, IN, partition, ticks(cell, range(BEFORE_N, BEFORE_N + 1)))
        time.sleep(SETTLED_S)
        # What comes behind it would be taken again.
        take(kafka_broker, bytes_max=OBSERVATION_BYTES_MAX)
        produce(kafka_broker, IN, partition, ticks(cell, range(BEFORE_N + 1, MESSAGES_N)))
        wait_until(lambda: worker.process.poll() is not None, "the end of the worker")
        assert how_far() == BEFORE_N
        assert worker.process.returncode == UNSENT

    with running("ours", str(tmp_path / "config"), "nowhere"):
        wait_until(lambda: how_far() == MESSAGES_N, "the commit of all")
    given = [decode_observation(each.value) for each in read_range(plain(kafka_broker), OUT, partition, 0)]
    news = [each for n, each in enumerate(given) if each.position > max((g.position for g in given[:n]), default=0)]
    # Each new one names the one before it: decisions go on without a hole.
    assert [(each.after, each.position) for each in news] == [(n, n + 1) for n in range(MESSAGES_N)]


def test_an_observation_of_a_cell_whose_tags_all_fail_at_once_is_sent(kafka_broker, tmp_path):
    """Was: above 1 MB the producer refused it, and the worker ended at it again and again."""
    settings = settings_of(emptied(kafka_broker))
    apply_topics(settings)
    configuration = configure(tmp_path / "config", kafka_broker, cells_n=1)
    value = b"x" * (OBSERVATION_BYTES_MAX // 2)

    async def send() -> None:
        producer = make_app(configuration, settings).producer
        await producer.start()
        try:
            await (await producer.send(OUT, None, value, 0, None, None))
        finally:
            await producer.stop()

    asyncio.run(send())
    (given,) = read_range(plain(kafka_broker), OUT, 0, 0)
    assert given.value == value
