"""docs/kafka.md is held against the code: the example works, the tables are those of topics, rights and settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from connectors.kafka.mapping import Mapped, map_message
from connectors.kafka.streams import checked
from connectors.kafka.topics import config_of
from pipelines.commands.topics import read_access
from pipelines.config import load
from schemas.access import ProcessRights
from schemas.settings import KafkaSettings
from schemas.streams import Streams
from schemas.topics import DAY_MS, TOPICS
from tests.support.demo import CONFIG

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/kafka.md").read_text()


def block(beginning: str) -> str:
    (found,) = [
        text for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if beginning in text
    ]
    return found


def rows(heading: str) -> list[list[str]]:
    table = PAGE.split(heading, 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:] if line]


def test_the_example_understands_the_messages_beside_it_whole():
    text = block("[[streams]]")
    messages = re.findall(r"^# (\{.*\})$", text, re.MULTILINE)
    mappings = checked(Streams.model_validate(tomllib.loads(text)), load(CONFIG).plant)
    assert len(messages) == len(mappings) == 2
    outcomes = [map_message(m, None, message.encode()) for m, message in zip(mappings, messages, strict=True)]
    assert all(isinstance(outcome, Mapped) and not outcome.problems for outcome in outcomes)
    assert [len(outcome.samples) + len(outcome.events) for outcome in outcomes] == [2, 2]
    assert {sample.at for outcome in outcomes for sample in outcome.samples} == {1_769_860_800_000_000}


def test_the_plants_settings_are_settings():
    settings = KafkaSettings.model_validate(tomllib.loads(block("[kafka]"))["kafka"])
    assert (settings.security, settings.replication, settings.in_sync_min) == ("SASL_SSL", 3, 2)


def test_the_table_of_topics_is_the_codes():
    kept = {-1: "for ever", 7 * DAY_MS: "7 days", 30 * DAY_MS: "30 days", 90 * DAY_MS: "90 days"}
    said = [(row[0], row[3]) for row in rows("| topic | key | what is in it | kept |\n")]
    assert said == [(f"`{topic.name}`", kept[topic.retention_ms]) for topic in TOPICS]


def test_the_table_of_settings_says_what_topics_get():
    wanted = config_of(TOPICS[0], KafkaSettings(bootstrap=("h:1",)))
    said = {row[0].strip("`"): row[1].strip("`") for row in rows("| setting | value | why |\n")}
    same = ("message.timestamp.type", "unclean.leader.election.enable", "max.message.bytes")
    assert {key: said[key] for key in same} == {key: wanted[key] for key in same}
    larger = {topic.name: topic.bytes_max for topic in TOPICS if topic.bytes_max != TOPICS[0].bytes_max}
    (row,) = (row for row in rows("| setting | value | why |\n") if "max.message.bytes" in row[0])
    assert all(f"{bytes_max} for `{name}`" in row[2] for name, bytes_max in larger.items())


def test_the_table_of_rights_is_the_one_that_is_granted():
    processes = {each.user: each for each in read_access(ROOT / "deploy/kafka/acls.toml").processes}
    said = {row[0].strip("`"): row[1:] for row in rows("| user | writes | reads | group |\n")}
    assert list(said) == list(processes)
    for user in ("collect", "detect", "decide", "keep"):
        writes, reads, groups = ({*re.findall(r"`([^`]+)`", cell)} for cell in said[user])
        assert (writes, reads, groups) == (having(processes[user], "WRITE"), having(processes[user], "READ"),
                                           set(processes[user].groups))  # fmt: skip
    assert having(processes["tools"], "READ") == {topic.name for topic in TOPICS}
    assert having(processes["topics"], "READ") | having(processes["topics"], "WRITE") == set()


def having(process: ProcessRights, right: str) -> set[str]:
    return {topic for topic, given in process.topics.items() if right in given}
