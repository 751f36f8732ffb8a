"""A real Kafka for tests: one broker for the whole run, or clusters of a test's own.

`kafka_broker` is a fixture of `tests/conftest.py`. Tests that share it name topics of their own, or call `emptied`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from connectors.kafka import broker, jars
from connectors.kafka.broker import Cluster
from connectors.kafka.sockets import DIRECT
from schemas.settings import KafkaSettings

GONE_WITHIN_S = 20.0


def need_kafka() -> None:
    """Skip the test where Java or the jars are missing; in CI that is a failure."""
    if lacks := jars.missing():
        assert os.environ.get("CI") != "true", lacks
        pytest.skip(lacks)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker in clear, shared by all tests of the run: leave it alive."""
    need_kafka()
    with broker.cluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


def own_broker(folder: Path, **more: object) -> AbstractContextManager[Cluster]:
    """Run one broker that a test may kill, pause and restart."""
    need_kafka()
    return broker.cluster(folder, **more)  # type: ignore[arg-type]


def three_brokers(folder: Path, options: Mapping[str, str] | None = None) -> AbstractContextManager[Cluster]:
    """Run three brokers: topics have three copies, two must have a message (`settings_of` says so)."""
    need_kafka()
    return broker.cluster(folder, brokers_n=3, options=options)


def settings_of(cluster: Cluster, **changes: object) -> KafkaSettings:
    """Return settings for this cluster: 3 partitions, as many copies as there are brokers, one of which may be away."""
    copies = min(3, len(cluster.brokers))
    usual = {"partitions": 3, "replication": copies, "in_sync_min": max(1, copies - 1), "session_s": 6.0}
    return KafkaSettings(bootstrap=cluster.bootstrap, **{**usual, **changes})


def plain(cluster: Cluster) -> dict[str, object]:
    """Return what every kafka-python client of a broker in clear is made with."""
    # By default a client waits up to 30 s before it looks for a broker again, and a test would measure that.
    return {"bootstrap_servers": list(cluster.bootstrap), "proxy_url": DIRECT, "reconnect_backoff_max_ms": 500}


@contextmanager
def admin_of(cluster: Cluster) -> Iterator[KafkaAdminClient]:
    """Give an admin client of a broker in clear."""
    admin = KafkaAdminClient(**plain(cluster))
    try:
        yield admin
    finally:
        admin.close()


def emptied(cluster: Cluster) -> Cluster:
    """Delete every topic but Kafka's own, and return when they are gone."""
    with admin_of(cluster) as admin:
        names = [name for name in admin.list_topics() if not name.startswith("__")]
        if names:
            admin.delete_topics(names)
        until_s = time.monotonic() + GONE_WITHIN_S
        while set(names) & set(admin.list_topics()):
            assert time.monotonic() < until_s, "topics do not go away"
            time.sleep(0.05)
    return cluster
