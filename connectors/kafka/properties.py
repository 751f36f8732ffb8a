"""`server.properties` and the log configuration of a local broker: KRaft, broker and controller in one process.

What decides about loss (acknowledgement by all in-sync copies, no unclean election) stays as Kafka ships it; what only
costs time and memory on a small machine is turned down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
LISTENER = "CLIENTS"
CONTROLLER = "CONTROLLER"
COPIES_MAX = 3

SMALL: Mapping[str, str] = {
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # A consumer group of one is there at once; Kafka would wait 3 s for more members.
    "group.initial.rebalance.delay.ms": "0",
    # How soon a broker that vanished is replaced as leader, and may come back after a kill.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    # A topic that was deleted gives its files back soon: tests make and delete many.
    "log.segment.delete.delay.ms": "2000",
}
"""Sizes and delays for one small machine."""

LOG4J = """\
# Written at each start.
rootLogger.level = WARN
rootLogger.appenderRef.stdout.ref = stdout
appender.stdout.name = stdout
appender.stdout.type = Console
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
# The ready check waits for its word "Kafka Server started".
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A broker and controller, by number and ports on the loopback."""

    number: int
    port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class Secured:
    """Clients must speak TLS and give a SCRAM-SHA-512 password; what they may do is told by access lists."""

    identity: Path
    """PEM: the brokers' private key (PKCS 8) and certificate, valid for 127.0.0.1."""
    subject: str
    """The certificate's subject, as in `CN=broker`: brokers know each other's controllers by it."""
    ca: Path
    """PEM: who signed it."""
    users: Mapping[str, str]
    """Password by name; made when the storage is formatted."""
    super_user: str
    """One of the users: may do everything, and is what brokers call each other as."""


def server_properties(
    node: Node, quorum: Sequence[Node], logs: Path, options: Mapping[str, str], secured: Secured | None
) -> str:
    """Return the text of `server.properties`.

    Args:
        node: Whose.
        quorum: All nodes of the cluster, this one too.
        logs: Folder of the messages.
        options: Broker settings that go over all others.
        secured: None: everything in clear, everybody may do everything.
    """
    copies = str(min(COPIES_MAX, len(quorum)))
    settings = {
        "process.roles": "broker,controller",
        "node.id": str(node.number),
        "controller.quorum.voters": ",".join(f"{n.number}@{HOST}:{n.controller_port}" for n in quorum),
        "listeners": f"{LISTENER}://{HOST}:{node.port},{CONTROLLER}://{HOST}:{node.controller_port}",
        "advertised.listeners": f"{LISTENER}://{HOST}:{node.port}",
        "inter.broker.listener.name": LISTENER,
        "controller.listener.names": CONTROLLER,
        "log.dirs": str(logs),
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": str(in_sync_min(len(quorum))),
        "min.insync.replicas": str(in_sync_min(len(quorum))),
        **SMALL,
        **(_in_clear() if secured is None else _with_access(secured)),
        **options,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def in_sync_min(brokers_n: int) -> int:
    """Return how many copies must have a message before it is acknowledged: one may always be away.

    >>> in_sync_min(1), in_sync_min(3)
    (1, 2)
    """
    return max(1, min(COPIES_MAX, brokers_n) - 1)


def _in_clear() -> dict[str, str]:
    return {"listener.security.protocol.map": f"{LISTENER}:PLAINTEXT,{CONTROLLER}:PLAINTEXT"}


def _with_access(secured: Secured) -> dict[str, str]:
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    login = f'{module} username="{secured.super_user}" password="{secured.users[secured.super_user]}";'
    return {
        "listener.security.protocol.map": f"{LISTENER}:SASL_SSL,{CONTROLLER}:SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        f"listener.name.{LISTENER.lower()}.scram-sha-512.sasl.jaas.config": login,
        # Controllers have no passwords yet when they first meet: they know each other by certificate.
        f"listener.name.{CONTROLLER.lower()}.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(secured.identity),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(secured.ca),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{secured.super_user};User:{secured.subject}",
    }
