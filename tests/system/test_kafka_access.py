"""Who may come in and what each process may do, at a real broker with TLS, passwords and access lists."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from connectors.kafka.admin import apply_topics, check_topics, grant, require_topics
from connectors.kafka.checks import check_cluster
from connectors.kafka.connection import aiokafka_arguments, connect, faust_arguments, probe, translate
from connectors.kafka.faults import AccessRefused
from pipelines.commands.topics import read_access
from schemas.access import rights
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings, User
from schemas.topics import TOPICS
from tests.support.kafka_secured import authority, secured_cluster

TABLE = Path(__file__).parents[2] / "deploy/kafka/acls.toml"
WAIT_S = 30
CELL = "a/b/c/d/cell1"


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A broker whose topics the user `topics` made, with the access list of deploy/."""
    with secured_cluster(tmp_path_factory.mktemp("secured")) as cluster:
        table = rights(read_access(TABLE))
        granted, besides = grant(cluster.settings(), table)
        assert (len(granted), besides) == (len(table), [])
        apply_topics(cluster.settings("topics"))
        yield cluster


def write(settings: KafkaSettings, topic: str) -> None:
    producer = connect(KafkaProducer, settings, acks="all", max_block_ms=WAIT_S * 1000)
    try:
        producer.send(topic, b"x", b"cell").get(timeout=WAIT_S)
    except KafkaError as error:
        raise translate(error, settings, doing="write") from error
    finally:
        producer.close()


def read(settings: KafkaSettings, topic: str, group: str | None = None) -> None:
    """Read one message, as a member of a group or alone."""
    consumer = connect(KafkaConsumer, settings, group_id=group, auto_offset_reset="earliest")
    try:
        if group:
            consumer.subscribe([topic])
        else:
            consumer.assign([TopicPartition(topic, p) for p in range(settings.partitions)])
        for _ in range(WAIT_S):
            if consumer.poll(timeout_ms=1000):
                return
        raise AssertionError("no message")
    except KafkaError as error:
        raise translate(error, settings, doing="read") from error
    finally:
        consumer.close()


def test_every_client_comes_in_with_the_right_password(secured):
    settings = secured.settings()
    write(settings, "telemetry.v1")
    read(settings, "telemetry.v1")

    async def through_aiokafka() -> bytes | None:
        producer = AIOKafkaProducer(**aiokafka_arguments(settings), acks="all")
        await producer.start()
        await producer.send_and_wait("anomalies.v1", b"seen", partition=0)
        await producer.stop()
        consumer = AIOKafkaConsumer("anomalies.v1", **aiokafka_arguments(settings), auto_offset_reset="earliest")
        await consumer.start()
        try:
            return (await asyncio.wait_for(consumer.getone(), WAIT_S)).value
        finally:
            await consumer.stop()

    assert asyncio.run(through_aiokafka()) == b"seen"


def test_fausts_credentials_are_those_of_the_settings(secured):
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

    arguments = faust_arguments(secured.settings("detect"))
    assert arguments["broker"] == f"kafka://{secured.cluster.bootstrap[0]}"
    given = credentials_to_aiokafka_auth(arguments["broker_credentials"])

    async def comes_in() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=list(secured.cluster.bootstrap), **given)
        await producer.start()
        await producer.send_and_wait("anomalies.v1", b"x")
        await producer.stop()

    asyncio.run(comes_in())


def fault_of(settings: KafkaSettings) -> ConnectionFault:
    with pytest.raises(ConnectionFault) as caught:
        asyncio.run(probe(settings))
    with pytest.raises(ConnectionFault, match=r".") as same:
        connect(KafkaAdminClient, settings)
    assert str(same.value) == str(caught.value)
    return caught.value


def test_a_wrong_password_is_told_without_it(secured, tmp_path):
    wrong = tmp_path / "collect.password"
    wrong.touch(mode=0o600)
    wrong.write_text("not the one\n")
    user = User(name="collect", password_file=str(wrong))
    fault = fault_of(secured.settings().model_copy(update={"user": user}))
    (address,) = secured.cluster.bootstrap
    assert isinstance(fault, AccessRefused)
    assert str(fault) == (
        f"{address}: the broker refused user 'collect'. Check kafka.user and the password in {wrong}."
    )
    assert "not the one" not in repr(aiokafka_arguments(secured.settings().model_copy(update={"user": user})))


def test_a_password_that_others_can_read_is_not_used(secured, tmp_path):
    loose = tmp_path / "loose.password"
    loose.write_text("secret\n")
    loose.chmod(0o644)
    user = User(name="collect", password_file=str(loose))
    fault = fault_of(secured.settings().model_copy(update={"user": user}))
    assert str(fault) == f"{loose}: others can read this password. Run: chmod 600 {loose}"


@pytest.mark.parametrize(("changes", "words"), [
    ({"ca": ""}, r"certificate is not trusted: .+ Put who signed it into kafka\.ca \(the system's list\)"),
    ({"ca": "other"}, r"certificate is not trusted: .+ Put who signed it into kafka\.ca \(.*ca\.pem\)"),
    ({"ca": "/no/such.pem"}, r"kafka\.ca: /no/such\.pem: No such file or directory\."),
    ({"security": "SSL", "user": None}, r"closed the connection to a client without user\. kafka\.security is SSL"),
    ({"security": "PLAINTEXT", "user": None}, r"closed the connection .+ kafka\.security is PLAINTEXT: set it as"),
    ({"security": "SASL_PLAINTEXT"}, r"closed the connection to user 'admin'\. kafka\.security is SASL_PLAINTEXT"),
    ({"bootstrap": ("127.0.0.1:1",)}, r"^127\.0\.0\.1:1: nothing listens there\. Start the broker or correct kafka\."),
    ({"bootstrap": ("nowhere.invalid:1",)}, r"^nowhere\.invalid:1: unknown host name\. Correct kafka\.bootstrap"),
])  # fmt: skip
def test_what_is_wrong_is_told_with_its_setting(secured, tmp_path, changes, words):
    if changes.get("ca") == "other":
        changes = {"ca": str(authority(tmp_path / "pki", "another authority")[0])}
    fault = fault_of(secured.settings().model_copy(update=changes))
    assert_matches(words, str(fault))


def assert_matches(words: str, text: str) -> None:
    with pytest.raises(ConnectionFault, match=words):
        raise ConnectionFault(text)


def test_a_certificate_for_another_name_is_told(secured):
    address = secured.cluster.bootstrap[0].replace("127.0.0.1", "localhost")
    fault = fault_of(secured.settings().model_copy(update={"bootstrap": (address,)}))
    assert_matches(r"the broker's certificate is for another name .+ Write kafka\.bootstrap as", str(fault))


def test_one_broker_of_several_is_enough(secured):
    both = ("127.0.0.1:1", *secured.cluster.bootstrap)
    asyncio.run(probe(secured.settings().model_copy(update={"bootstrap": both})))


def test_a_key_that_others_can_read_is_not_used(secured, tmp_path):
    _, identity = authority(tmp_path / "pki", "x")
    os.chmod(identity, 0o644)
    settings = secured.settings().model_copy(update={"certificate": str(identity), "key": str(identity)})
    assert str(fault_of(settings)) == f"kafka.key: others can read {identity}. Run: chmod 600 {identity}"


MAY_WRITE = {
    "collect": {"telemetry.v1", "dead-letters.v1"},
    "detect": {"anomalies.v1", "line-events.v1", "dead-letters.v1"},
    "decide": {"telemetry.v1", "decisions.v1", "dead-letters.v1"},
    "keep": set(),
    "tools": {"operator-requests.v1"},
    "topics": set(),
    "nobody": set(),
}


@pytest.mark.parametrize("user", MAY_WRITE)
def test_each_process_writes_its_topics_and_no_others(secured, user):
    for topic in TOPICS:
        if topic.name in MAY_WRITE[user]:
            write(secured.settings(user), topic.name)
        else:
            with pytest.raises(AccessRefused, match=f"user '{user}' may not write: the broker's access list gives no"):
                write(secured.settings(user), topic.name)


@pytest.mark.parametrize(("user", "topic", "group"), [
    ("detect", "telemetry.v1", "jidoka-detect"),
    ("decide", "anomalies.v1", "jidoka-decide"),
    ("decide", "operator-requests.v1", "jidoka-decide"),
    ("decide", "decisions.v1", None),
    ("detect", "anomalies.v1", None),
    ("keep", "telemetry.v1", None),
    ("keep", "anomalies.v1", None),
    ("tools", "decisions.v1", "jidoka-tools-1"),
    ("tools", "decisions.v1", None),
])  # fmt: skip
def test_each_process_reads_what_it_needs(secured, user, topic, group):
    write(secured.settings(), topic)
    read(secured.settings(user), topic, group)


@pytest.mark.parametrize(("user", "topic", "group", "on"), [
    ("collect", "telemetry.v1", None, r"a topic \(telemetry\.v1\)"),
    ("detect", "dead-letters.v1", "jidoka-detect", r"a topic \(dead-letters\.v1\)"),
    ("decide", "telemetry.v1", None, r"a topic \(telemetry\.v1\)"),
    ("detect", "telemetry.v1", "jidoka-decide", r"a consumer group \(jidoka-decide\)"),
    ("tools", "anomalies.v1", "jidoka-decide", r"a consumer group \(jidoka-decide\)"),
])  # fmt: skip
def test_a_process_reads_nothing_else(secured, user, topic, group, on):
    write(secured.settings(), topic)
    words = rf"user '{user}' may not read: the broker's access list gives no right on {on}\. Grant it as deploy/kafka/"
    with pytest.raises(AccessRefused, match=words):
        read(secured.settings(user), topic, group)


def said_of(secured, user: str) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.ok, check.detail) for check in check_cluster(secured.settings(user), [CELL])}


def test_the_doctor_finds_all_well_as_the_user_for_tools(secured):
    said = said_of(secured, "tools")
    assert {name for name, (ok, _) in said.items() if not ok} == set()
    assert said["security"][1].startswith("SASL_SSL as user 'tools'")
    assert "decisions.v1 READ" in said["rights"][1]
    assert said["topics"][1].endswith("are as they must be")


def test_the_doctor_tells_a_process_what_it_may_use_and_what_is_not_for_it_to_see(secured):
    said = said_of(secured, "detect")
    assert {name for name, (ok, _) in said.items() if not ok} == set()
    assert "telemetry.v1 can be used by user 'detect'; how they are set is not for it to see" in said["topics"][1]
    assert said["rights"][1].startswith("user 'detect' may anomalies.v1 READ+WRITE; dead-letters.v1 WRITE; ")
    assert "no right to see it" in said["group jidoka-decide"][1]


@pytest.mark.parametrize(("user", "check", "words"), [
    ("topics", "rights", "user 'topics' may"),
    ("nobody", "topics", "none can be used by user 'nobody'"),
])  # fmt: skip
def test_the_doctor_names_rights_that_are_too_many_or_missing(secured, user, check, words):
    ok, detail = said_of(secured, user)[check]
    assert not ok
    assert words in detail


def test_a_topic_that_one_may_not_even_see_is_told_before_anybody_waits_for_it(secured):
    require_topics(secured.settings("detect"), ["telemetry.v1", "anomalies.v1"])
    with pytest.raises(AccessRefused, match=r"user 'detect' may not use topics: .+ on a topic \(decisions\.v1\)"):
        require_topics(secured.settings("detect"), ["telemetry.v1", "decisions.v1"])
    with pytest.raises(ConnectionFault, match=r"there is no topic plant\.v1\. Correct the name\."):
        require_topics(secured.settings(), ["plant.v1"])


def test_a_refusal_through_aiokafka_names_the_topic(secured):
    settings = secured.settings("collect")

    async def write_anomalies() -> None:
        producer = AIOKafkaProducer(**aiokafka_arguments(settings), acks="all")
        await producer.start()
        try:
            await producer.send_and_wait("anomalies.v1", b"x")
        finally:
            await producer.stop()

    with pytest.raises(TopicAuthorizationFailedError) as refused:
        asyncio.run(write_anomalies())
    fault = translate(refused.value, settings, doing="write")
    assert_matches(r"user 'collect' may not write: .+ no right on a topic \(anomalies\.v1\)", str(fault))


def test_topics_are_made_and_looked_at_by_whom_it_was_given(secured):
    assert check_topics(secured.settings("topics")) == []
    assert check_topics(secured.settings("tools")) == []
    with pytest.raises(AccessRefused, match="user 'collect' may not look at topics"):
        check_topics(secured.settings("collect"))
    with pytest.raises(AccessRefused, match=r"user 'topics' may not change the access list: .+ on the cluster"):
        grant(secured.settings("topics"), [])


def test_a_right_that_is_more_than_needed_is_named(secured):
    table = rights(read_access(TABLE))
    assert grant(secured.settings(), table) == ([], [])
    fewer = [right for right in table if (right.user, right.name) != ("decide", "telemetry.v1")]
    granted, besides = grant(secured.settings(), fewer)
    assert (granted, [str(right) for right in besides]) == (
        [],
        ["User:decide WRITE on topic telemetry.v1"],
    )
