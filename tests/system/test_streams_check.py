"""The dry run over a plant's own topics: what a data engineer sees, from a broker and from a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner, Result

from pipelines.cli import app
from tests.support.demo import CONFIG
from tests.support.kafka_broker import admin_of, emptied, plain

STREAMS = """
[[streams]]
topic = "press.values"
cell = "cell1"
key = "press1"
time = { path = "ts", format = "iso8601", zone = "Europe/Berlin" }
status = { path = "q", codes = { ok = 0, bad = 0x80000000 } }
values = [
    { tag = "grip_force_n", unit = "N", path = "force" },
    { tag = "lift_current_a", unit = "A", path = "lift" },
]
state = { path = "mode", states = { RUN = "EXECUTE" } }
"""
MESSAGES = [
    {"ts": "2026-01-31T13:00:00", "q": "ok", "force": 31.5, "mode": "RUN"},
    {"ts": "2026-10-25T02:30:00", "q": "ok", "force": 31.5},
    {"ts": "2026-01-31T13:00:01", "q": "ok", "force": "31.5", "mode": "RUN"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / "config/streams.toml").write_text(STREAMS)
    return tmp_path / "config"


def check(folder: Path, *words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["streams", "check", "--config", str(folder), *words], catch_exceptions=True
    )


def test_the_last_messages_of_a_topic_are_shown_as_they_are_understood(kafka_broker, folder):
    with admin_of(emptied(kafka_broker)) as admin:
        admin.create_topics({"press.values": {"num_partitions": 2}}, wait_for_metadata=True)
    producer = KafkaProducer(**plain(kafka_broker))
    for message in MESSAGES:
        producer.send("press.values", json.dumps(message).encode(), b"press1", partition=1).get(timeout=30)
    producer.send("press.values", b"{}", b"press2", partition=0).get(timeout=30)
    producer.close()
    shown = check(folder, "--kafka", kafka_broker.bootstrap[0])
    assert shown.exit_code == 1
    rows = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert "│ press.values 1/0 │ cell1 │ grip_force_n │ 2026-01-31 12:00:00.000 │ 31.5 │ N │" in rows
    assert "│ press.values 1/0 │ cell1 │ packml.state │ 2026-01-31 12:00:00.000 │ EXECUTE │ │" in rows
    assert "local time 2026-10-25T02:30:00 is there twice in Europe/Berlin" in " ".join(shown.output.split())
    assert "grip_force_n: '31.5' at 'force' is no number" in " ".join(shown.output.split())
    assert "4 messages: 2 used, 1 not understood, 1 not ours; 1 samples of 1 tags, 2 events, 1 problems" in shown.output
    assert "mapped but not seen: lift_current_a" in shown.output


def test_only_as_many_messages_as_asked_for_are_read(kafka_broker, folder):
    with admin_of(emptied(kafka_broker)) as admin:
        admin.create_topics({"press.values": {"num_partitions": 3}}, wait_for_metadata=True)
    producer = KafkaProducer(**plain(kafka_broker))
    for second in range(30):
        message = {"ts": f"2026-01-31T13:00:{second:02d}", "q": "ok", "force": second, "lift": 1}
        producer.send("press.values", json.dumps(message).encode(), b"press1", partition=second % 3)
    producer.close()
    shown = check(folder, "--kafka", kafka_broker.bootstrap[0], "--last", "5")
    assert (shown.exit_code, shown.exception) == (0, None)
    assert "5 messages: 5 used, 0 not understood, 0 not ours; 10 samples of 2 tags" in shown.output


def test_a_file_of_messages_stands_in_for_the_broker(folder, tmp_path):
    file = tmp_path / "messages.jsonl"
    lines = [{"topic": "press.values", "key": "press1", "value": MESSAGES[0]},
             {"topic": "press.values", "key": "press1", "payload": json.dumps(MESSAGES[2])},
             {"topic": "press.values", "key": "press7", "value": MESSAGES[0]}, MESSAGES[0]]  # fmt: skip
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    shown = check(folder, str(file))
    # A bare line has no key, and this entry wants one.
    assert "4 messages: 2 used, 0 not understood, 2 not ours; 1 samples of 1 tags, 2 events, 1 problems" in shown.output


@pytest.mark.parametrize(("change", "words"), [
    (("unit = \"N\"", "unit = \"kN\""), "streams.0.values.0.unit: grip_force_n comes in 'kN' and the tag is in"),
    (("path = \"force\"", "path = \"force[\""), "is not understood at '['"),
    (("zone = ", "zon = "), "streams.toml: streams.0.time.zon: "),
])  # fmt: skip
def test_a_mistake_in_the_file_is_named(folder, tmp_path, change, words):
    path = folder / "streams.toml"
    path.write_text(path.read_text().replace(*change))
    shown = check(folder, str(tmp_path / "none.jsonl"))
    assert words in str(shown.exception)


def test_a_missing_file_of_entries_or_messages_is_named(folder, tmp_path):
    missing = check(folder, str(tmp_path / "none.jsonl"))
    assert "none.jsonl: file: cannot be read: No such file" in str(missing.exception)
    (folder / "streams.toml").unlink()
    assert "streams.toml: (file): it is missing" in str(check(folder).exception)


def test_without_a_broker_in_the_settings_one_must_be_named(folder):
    assert (
        str(check(folder).exception) == "jidoka.toml: kafka: it is missing. Add [kafka] with bootstrap, or give --kafka"
    )


def test_a_topic_that_is_not_there_is_told(kafka_broker, folder):
    emptied(kafka_broker)
    shown = check(folder, "--kafka", kafka_broker.bootstrap[0])
    assert str(shown.exception).endswith("there is no topic press.values. Correct the name.")
