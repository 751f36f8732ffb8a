"""Topics at a real broker: created once, compared, mended where nothing is lost, and otherwise told."""

from __future__ import annotations

import time

import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from connectors.kafka.admin import apply_topics, check_topics
from pipelines.cli import app
from schemas.errors import ConnectionFault
from schemas.topics import TOPICS
from tests.support.kafka_broker import admin_of, emptied, settings_of

NAMES = [topic.name for topic in TOPICS]


@pytest.fixture
def settings(kafka_broker):
    return settings_of(emptied(kafka_broker))


def alter(kafka_broker, topic: str, **config: str) -> None:
    with admin_of(kafka_broker) as admin:
        keys = {key.replace("_", "."): value for key, value in config.items()}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, keys)])
        asked = ConfigResource(ConfigResourceType.TOPIC, topic, list(keys))
        # The controller has it; the broker that is asked hears of it a moment later.
        for _ in range(200):
            told = admin.describe_configs([asked], config_filter="all")["topic"][topic]
            if {key: value["value"] for key, value in told.items()} == keys:
                return
            time.sleep(0.05)
        raise AssertionError(told)


def test_all_topics_are_created_and_a_second_time_nothing_is(kafka_broker, settings):
    assert [each.what for each in check_topics(settings)] == ["topic"] * len(NAMES)
    assert list(apply_topics(settings).created) == NAMES
    again = apply_topics(settings)
    assert (again.created, again.changed, again.left) == ((), (), ())
    assert check_topics(settings) == []
    with admin_of(kafka_broker) as admin:
        described = {each["name"]: each for each in admin.describe_topics(NAMES)}
        decisions = ConfigResource(ConfigResourceType.TOPIC, "decisions.v1", ["retention.ms", "message.timestamp.type"])
        config = admin.describe_configs([decisions], config_filter="all")["topic"]["decisions.v1"]
    assert {len(each["partitions"]) for each in described.values()} == {settings.partitions}
    assert (config["retention.ms"]["value"], config["message.timestamp.type"]["value"]) == ("-1", "LogAppendTime")


def test_another_partition_count_is_told_and_never_changed(kafka_broker, settings):
    apply_topics(settings)
    wider = settings.model_copy(update={"partitions": 7})
    assert {(each.what, each.found, each.wanted) for each in apply_topics(wider).left} == {("partitions", "3", "7")}
    with admin_of(kafka_broker) as admin:
        assert {len(each["partitions"]) for each in admin.describe_topics(NAMES)} == {3}


def test_a_setting_that_keeps_too_little_is_mended_and_one_that_keeps_more_is_left(kafka_broker, settings):
    apply_topics(settings)
    alter(kafka_broker, "decisions.v1", retention_ms="1000")
    alter(kafka_broker, "telemetry.v1", retention_ms="-1", message_timestamp_type="CreateTime")
    alter(kafka_broker, "anomalies.v1", cleanup_policy="compact")
    done = apply_topics(settings)
    assert {(e.topic, e.what, e.found, e.wanted) for e in done.changed} == {
        ("decisions.v1", "retention.ms", "1000", "-1"),
        ("telemetry.v1", "message.timestamp.type", "CreateTime", "LogAppendTime"),
    }
    left = [("telemetry.v1", "retention.ms"), ("anomalies.v1", "cleanup.policy")]
    assert [(e.topic, e.what) for e in done.left] == left
    assert [(e.topic, e.what) for e in check_topics(settings)] == left


def test_more_copies_than_brokers_are_refused_with_the_remedy(settings):
    copied = settings.model_copy(update={"replication": 3, "in_sync_min": 2})
    with pytest.raises(ConnectionFault, match=r"Start more brokers or lower kafka\.replication \(3\)"):
        apply_topics(copied)


def test_the_command_line_says_what_it_did_and_what_is_to_mend(kafka_broker, settings):
    address = kafka_broker.bootstrap[0]
    missing = CliRunner().invoke(app, ["topics", "check", "--kafka", address])
    assert missing.exit_code == 1
    assert "MEND  telemetry.v1: topic is missing, must be there. Run: jidoka topics apply." in missing.output
    made = CliRunner().invoke(app, ["topics", "apply", "--kafka", address])
    assert (made.exit_code, made.output.count("created")) == (0, len(NAMES))
    well = CliRunner().invoke(app, ["topics", "check", "--kafka", address])
    assert (well.exit_code, well.output) == (0, "all topics are as they must be\n")
    alter(kafka_broker, "telemetry.v1", max_message_bytes="1000")
    worse = CliRunner().invoke(app, ["topics", "check", "--kafka", address])
    assert worse.exit_code == 1
    assert "telemetry.v1: max.message.bytes is 1000, must be 1048588. Run: jidoka topics apply." in worse.output


def test_without_a_broker_the_fault_names_address_and_remedy(settings):
    away = settings.model_copy(update={"bootstrap": ("127.0.0.1:1",)})
    with pytest.raises(ConnectionFault, match=r"^127\.0\.0\.1:1: nothing listens there\. Start the broker or correct"):
        check_topics(away)
