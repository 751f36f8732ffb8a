"""How the topics must be, how they are, and where the two differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.settings import KafkaSettings
from schemas.topics import TOPICS, Topic


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it."""

    partitions_n: int
    replication: int
    """Of the partition with the fewest copies."""
    config: Mapping[str, str]
    """Of the keys in `config_of`."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it must be."""

    topic: str
    what: str
    """`topic`, `partitions`, `replication`, or the key of a setting."""
    found: str
    wanted: str
    remedy: str
    mendable: bool
    """Whether `apply` mends it: nothing is lost by it."""

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, must be {self.wanted}. {self.remedy}"


def config_of(topic: Topic, settings: KafkaSettings) -> dict[str, str]:
    """Return a topic's settings at the broker."""
    return {
        "cleanup.policy": topic.cleanup,
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": "-1",
        "min.insync.replicas": str(settings.in_sync_min),
        # A recording that is played has old times: by those, retention would delete it as it comes.
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(topic.bytes_max),
        "unclean.leader.election.enable": "false",
    }


def compare(found: Mapping[str, Found], settings: KafkaSettings, topics: Sequence[Topic] = TOPICS) -> list[Difference]:
    """Return every difference, in the order of the table of topics."""
    return [difference for topic in topics for difference in _differences(topic, found.get(topic.name), settings)]


def _differences(topic: Topic, found: Found | None, settings: KafkaSettings) -> list[Difference]:
    if found is None:
        return [Difference(topic.name, "topic", "missing", "there", "Run: jidoka topics apply.", True)]
    differences = []
    if found.partitions_n != settings.partitions:
        remedy = (
            f"A cell's place depends on it: set kafka.partitions = {found.partitions_n}. For another number make "
            "topics anew, when all of their messages are used."
        )
        differences.append(
            Difference(topic.name, "partitions", str(found.partitions_n), str(settings.partitions), remedy, False)
        )
    if found.replication != settings.replication:
        remedy = f"Move copies with kafka-reassign-partitions.sh, or set kafka.replication = {found.replication}."
        differences.append(
            Difference(topic.name, "replication", str(found.replication), str(settings.replication), remedy, False)
        )
    for key, wanted in config_of(topic, settings).items():
        if found.config.get(key) != wanted:
            differences.append(_config_difference(topic.name, key, found.config.get(key, "unknown"), wanted))
    return differences


def _config_difference(topic: str, key: str, found: str, wanted: str) -> Difference:
    if key == "cleanup.policy" or (key.startswith("retention.") and not _longer(found, wanted)):
        remedy = "To change it deletes messages, so it is left: kafka-configs.sh does it if they may go."
        return Difference(topic, key, found, wanted, remedy, False)
    return Difference(topic, key, found, wanted, "Run: jidoka topics apply.", True)


def _longer(found: str, wanted: str) -> bool:
    """Tell whether `wanted` keeps messages longer than `found`; -1 is for ever.

    >>> _longer("1000", "-1"), _longer("-1", "1000"), _longer("1000", "999")
    (True, False, False)
    """
    return found != "-1" and (wanted == "-1" or int(found) < int(wanted))
