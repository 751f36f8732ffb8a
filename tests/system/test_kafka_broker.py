"""The broker that tests and `make kafka` use: it starts, keeps what it acknowledged, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from connectors.kafka import broker as local
from connectors.kafka.broker import Broker, Cluster, cluster_id
from connectors.kafka.ports import free_ports, is_free
from connectors.kafka.properties import Node
from schemas.errors import ConnectionFault
from tests.support.kafka_broker import admin_of, emptied, need_kafka, own_broker, plain, three_brokers

MESSAGES = [b"%d" % number for number in range(200)]


def create(cluster: Cluster, name: str, **more: object) -> None:
    with admin_of(cluster) as admin:
        admin.create_topics({name: {"num_partitions": 1, **more}}, wait_for_metadata=True)


def produce(cluster: Cluster, topic: str, messages: list[bytes]) -> None:
    producer = KafkaProducer(**plain(cluster), acks="all")
    for future in [producer.send(topic, message) for message in messages]:
        future.get(timeout=30)
    producer.close()


def consume(cluster: Cluster, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(**plain(cluster), auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    got: list[bytes] = []
    until_s = time.monotonic() + 30
    while len(got) < count and time.monotonic() < until_s:
        got += [record.value for records in consumer.poll(timeout_ms=500).values() for record in records]
    consumer.close()
    return got


def test_both_clients_speak_to_it(kafka_broker):
    create(kafka_broker, "both")
    produce(kafka_broker, "both", MESSAGES)

    async def through_aiokafka() -> list[bytes]:
        producer = AIOKafkaProducer(bootstrap_servers=list(kafka_broker.bootstrap), acks="all")
        await producer.start()
        await producer.send_and_wait("both", b"last")
        await producer.stop()
        consumer = AIOKafkaConsumer("both", bootstrap_servers=list(kafka_broker.bootstrap), group_id="readers",
                                    auto_offset_reset="earliest")  # fmt: skip
        await consumer.start()
        got = [(await asyncio.wait_for(consumer.getone(), 30)).value for _ in range(len(MESSAGES) + 1)]
        await consumer.stop()
        return got

    assert asyncio.run(through_aiokafka()) == [*MESSAGES, b"last"]


def test_a_topic_that_nobody_created_is_not_created(kafka_broker):
    producer = KafkaProducer(**plain(kafka_broker), max_block_ms=2000)
    with pytest.raises(KafkaTimeoutError):
        producer.send("nobody", b"x")
    producer.close()
    with admin_of(kafka_broker) as admin:
        assert "nobody" not in admin.list_topics()


def test_what_was_acknowledged_outlives_a_kill_and_a_stop(tmp_path):
    with own_broker(tmp_path) as cluster:
        (broker,) = cluster.brokers
        create(cluster, "kept")
        produce(cluster, "kept", MESSAGES[:100])
        broker.kill()
        broker.start()
        produce(cluster, "kept", MESSAGES[100:])
        broker.stop()
        assert not broker.alive
        broker.start()
        assert consume(cluster, "kept", len(MESSAGES)) == MESSAGES
        pid = broker.pid
    assert not broker.alive
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_paused_broker_keeps_its_clients_and_goes_on(tmp_path):
    with own_broker(tmp_path) as cluster:
        create(cluster, "paused")
        producer = KafkaProducer(**plain(cluster), acks="all")
        producer.send("paused", b"before").get(timeout=30)
        cluster.brokers[0].pause()
        waiting = producer.send("paused", b"after")
        time.sleep(1.0)
        assert not waiting.is_done
        cluster.brokers[0].resume()
        waiting.get(timeout=30)
        producer.close()
        assert consume(cluster, "paused", 2) == [b"before", b"after"]


def test_of_three_brokers_one_may_be_killed_and_nothing_acknowledged_is_lost(tmp_path):
    with three_brokers(tmp_path) as cluster:
        create(cluster, "copied", replication_factor=3)
        produce(cluster, "copied", MESSAGES[:100])
        with admin_of(cluster) as admin:
            (topic,) = admin.describe_topics(["copied"])
        leader = topic["partitions"][0]["leader_id"]
        assert sorted(topic["partitions"][0]["replica_nodes"]) == [1, 2, 3]
        cluster.brokers[leader - 1].kill()
        produce(cluster, "copied", MESSAGES[100:])
        cluster.brokers[leader - 1].start()
        assert consume(cluster, "copied", len(MESSAGES)) == MESSAGES


def test_topics_of_another_test_can_be_cleared_away(kafka_broker):
    create(kafka_broker, "left-over")
    with admin_of(emptied(kafka_broker)) as admin:
        assert [name for name in admin.list_topics() if not name.startswith("__")] == []


def test_a_broker_that_cannot_start_says_why(tmp_path):
    need_kafka()
    ports = free_ports(2)
    node = Node(1, *ports)
    broker = Broker(tmp_path, node, [node], options={"num.io.threads": "none"})
    with pytest.raises(ConnectionFault, match=r"num\.io\.threads"):
        broker.start()
    assert not broker.alive


def test_without_java_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    node = Node(1, *free_ports(2))
    with pytest.raises(ConnectionFault, match=r"no java on this machine\. Run `make counterparts`"):
        Broker(tmp_path, node, [node]).start()


def test_in_the_foreground_it_tells_its_address_and_ends_in_order_at_ctrl_c(tmp_path):
    need_kafka()
    (port,) = free_ports(1)
    words = ["-m", "connectors.kafka.foreground", "--data", str(tmp_path), "--port", str(port)]
    root = Path(local.__file__).parents[2]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    assert process.stdout.readline() == f"Kafka is ready on 127.0.0.1:{port}: jidoka up --kafka 127.0.0.1:{port}\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert is_free(port)


def test_no_clusters_identity_looks_like_an_option():
    ids = {cluster_id([Node(1, port, port + 1)]) for port in range(20_000, 24_000)}
    # With the usual letters of base64, one of 64 began with a dash, and that broker did not start.
    assert all(re.fullmatch(r"[A-Za-z0-9]{22}", each) for each in ids)
    assert len(ids) == 4_000
