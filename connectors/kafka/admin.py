"""Makes the topics, tells how they are, and writes the access list: what `jidoka topics` does at the broker.

A partition count is never changed, and nothing is changed that would delete messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import KafkaError, for_code

from connectors.kafka.connection import connect, translate
from connectors.kafka.topics import Difference, Found, compare, config_of
from schemas.access import Right
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings
from schemas.topics import TOPICS, topic

READY_WITHIN_S = 30.0
"""Wall time for new topics to have leaders."""
UNKNOWN_TOPIC = 3
ANY_HOST = "*"


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_topics` did."""

    created: tuple[str, ...]
    changed: tuple[Difference, ...]
    """Settings that were not as they must be, and are now."""
    left: tuple[Difference, ...]
    """What a person must mend."""


def check_topics(settings: KafkaSettings) -> list[Difference]:
    """Return where the broker's topics are not as they must be. Changes nothing.

    Raises:
        ConnectionFault: no broker, or no right to look.
    """
    with _admin(settings, "look at topics") as admin:
        return compare(_look(admin), settings)


def partitions_there(settings: KafkaSettings) -> int:
    """Return how many partitions our topics have at the broker; what the settings say while there are none.

    Raises:
        ConnectionFault: no broker, or no right to look.
    """
    with _admin(settings, "look at topics") as admin:
        return max((found.partitions_n for found in _look(admin).values()), default=settings.partitions)


def require_topics(settings: KafkaSettings, names: Sequence[str]) -> None:
    """Return when these topics are there and may be used at all; a consumer without a right waits for ever otherwise.

    Raises:
        ConnectionFault: no broker, a topic is missing, or the access list gives no right on it.
    """
    with _admin(settings, "use topics") as admin:
        for each in admin.describe_topics(list(names)):
            if each["error_code"] == UNKNOWN_TOPIC:
                ours = any(each["name"] == topic.name for topic in TOPICS)
                remedy = "Run: jidoka topics apply." if ours else "Correct the name."
                raise ConnectionFault(f"{', '.join(settings.bootstrap)}: there is no topic {each['name']}. {remedy}")
            if each["error_code"]:
                raise for_code(each["error_code"])(each["name"])


def apply_topics(settings: KafkaSettings) -> Applied:
    """Create the topics that are missing and mend settings; a second run finds nothing to do.

    Raises:
        ConnectionFault: no broker, no right, or fewer brokers than copies.
    """
    with _admin(settings, "create topics") as admin:
        differences = compare(_look(admin), settings)
        missing = tuple(each.topic for each in differences if each.what == "topic")
        if missing:
            _create(admin, settings, missing)
        changed = tuple(each for each in differences if each.mendable and each.what != "topic")
        if changed:
            _configure(admin, changed)
        return Applied(missing, changed, tuple(each for each in differences if not each.mendable))


def grant(settings: KafkaSettings, wanted: Sequence[Right]) -> tuple[list[Right], list[Right]]:
    """Write the rights that are missing into the broker's access list.

    Returns:
        What was granted now, and what the same users may besides: more than they need. It is left.

    Raises:
        ConnectionFault: no broker, no access list there, or no right to change it.
    """
    with _admin(settings, "change the access list") as admin:
        there = _rights(admin)
        missing = [right for right in wanted if right not in there]
        if missing:
            failed = admin.create_acls([_acl(right) for right in missing])["failed"]
            if failed:
                raise failed[0]()
        users = {right.user for right in wanted}
        return missing, sorted(right for right in there if right.user in users and right not in wanted)


@contextmanager
def _admin(settings: KafkaSettings, doing: str) -> Iterator[Any]:
    admin = connect(KafkaAdminClient, settings)
    try:
        yield admin
    except KafkaError as error:
        raise translate(error, settings, doing=doing) from error
    finally:
        admin.close()


def _look(admin: Any) -> dict[str, Found]:
    """Return those of our topics that exist."""
    described = {each["name"]: each for each in admin.describe_topics([each.name for each in TOPICS])}
    there = {name: each for name, each in described.items() if each["error_code"] != UNKNOWN_TOPIC}
    for name, each in there.items():
        if each["error_code"]:
            raise for_code(each["error_code"])(name)
    if not there:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        name: Found(
            len(each["partitions"]),
            min(len(partition["replica_nodes"]) for partition in each["partitions"]),
            {key: str(value["value"]) for key, value in configs[name].items()},
        )
        for name, each in there.items()
    }


def _create(admin: Any, settings: KafkaSettings, names: Sequence[str]) -> None:
    wanted = {
        name: {
            "num_partitions": settings.partitions,
            "replication_factor": settings.replication,
            "configs": config_of(topic(name), settings),
        }
        for name in names
    }
    for answer in admin.create_topics(wanted, raise_errors=False)["topics"]:
        kind = for_code(answer["error_code"])
        if answer["error_code"] == 0 or kind.__name__ == "TopicAlreadyExistsError":
            continue
        if kind.__name__ == "InvalidReplicationFactorError":
            raise ConnectionFault(
                f"{', '.join(settings.bootstrap)}: {answer['name']}: {answer['error_message']} Start more brokers or "
                f"lower kafka.replication ({settings.replication})."
            )
        raise kind(answer["name"])
    admin.wait_for_topics(list(names), timeout_ms=READY_WITHIN_S * 1000)


def _configure(admin: Any, differences: Sequence[Difference]) -> None:
    changes: dict[str, dict[str, str]] = {}
    for each in differences:
        changes.setdefault(each.topic, {})[each.what] = each.wanted
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, keys) for name, keys in changes.items()])


def _rights(admin: Any) -> list[Right]:
    everything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    acls, _ = admin.describe_acls(ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, everything))
    return [
        Right(
            acl.principal.removeprefix("User:"),
            acl.resource_pattern.resource_type.name,
            acl.resource_pattern.resource_name,
            acl.resource_pattern.pattern_type is ACLResourcePatternType.PREFIXED,
            acl.operation.name,
        )
        for acl in acls
        if acl.permission_type is ACLPermissionType.ALLOW and acl.host == ANY_HOST
    ]


def _acl(right: Right) -> Any:
    pattern = ACLResourcePatternType.PREFIXED if right.prefix else ACLResourcePatternType.LITERAL
    return ACL(
        f"User:{right.user}",
        ANY_HOST,
        ACLOperation[right.operation],
        ACLPermissionType.ALLOW,
        ResourcePattern(ResourceType[right.kind], right.name, pattern),
    )
