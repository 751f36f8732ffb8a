"""Who may do what at the broker: one entry a process, as Kafka's access lists have it. `deploy/kafka/acls.toml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from schemas.plant import Strict

TopicRight = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"]
GroupRight = Literal["READ", "DESCRIBE"]
ClusterRight = Literal["DESCRIBE", "ALTER"]
CLUSTER_NAME = "kafka-cluster"
"""Kafka's own name of the one cluster."""


class ProcessRights(Strict):
    """What one process may do; everything else is refused."""

    user: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Its SCRAM user, Kafka's principal `User:NAME`."""
    does: str
    """What it needs the rights for."""
    topics: Mapping[str, tuple[TopicRight, ...]] = {}
    """By topic. READ and WRITE bring DESCRIBE with them."""
    groups: Mapping[str, tuple[GroupRight, ...]] = {}
    """By consumer group; a name that ends in `*` is the beginning of several."""
    cluster: tuple[ClusterRight, ...] = ()
    """On the cluster as a whole."""


class AccessTable(Strict):
    """The whole of `acls.toml`."""

    processes: tuple[ProcessRights, ...]
    """All that connect."""


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One line of Kafka's access list: this user may do this to that, from any host."""

    user: str
    kind: str
    """TOPIC, GROUP or CLUSTER, as Kafka names it; so is `operation`."""
    name: str
    prefix: bool
    """Whether `name` is only the beginning of it."""
    operation: str

    def __str__(self) -> str:
        return f"User:{self.user} {self.operation} on {self.kind.lower()} {self.name}{'*' if self.prefix else ''}"


def rights(table: AccessTable) -> list[Right]:
    """Return the access list of a table, sorted, each right once."""
    return sorted({right for process in table.processes for right in _of(process)})


def _of(process: ProcessRights) -> Iterator[Right]:
    on_topics = [("TOPIC", name, right) for name, given in process.topics.items() for right in given]
    on_groups = [("GROUP", name, right) for name, given in process.groups.items() for right in given]
    on_cluster = [("CLUSTER", CLUSTER_NAME, right) for right in process.cluster]
    for kind, name, operation in (*on_topics, *on_groups, *on_cluster):
        yield Right(process.user, kind, name.removesuffix("*"), name.endswith("*"), operation)
