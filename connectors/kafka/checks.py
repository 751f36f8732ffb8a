"""What `jidoka doctor` asks of a cluster: is it there, is it as we need it, may we use it, who works on it, what waits.

Nothing is changed at the broker, and no group is joined.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from connectors.check import Check, failed
from connectors.kafka.admin import check_topics
from connectors.kafka.connection import connect, probe, translate
from connectors.kafka.faults import AccessRefused
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings
from schemas.topics import TOPICS, partition_of

GROUPS: Mapping[str, str] = {"jidoka-detect": "telemetry.v1", "jidoka-decide": "operator-requests.v1"}
"""Consumer groups, and the topic of which their commits tell how far they are."""
CLOCK_TOLERANCE_S = 1.0
"""Wall time. As at a plant's server: half of the default lateness."""
CLOCK_WATCH_S = 4.0
"""Wall time in which a collector that runs sends several ticks."""
LAG_WATCH_S = 4.0
"""Wall time between two looks at what waits."""
LAG_MAX = 1_000
"""Messages that may wait without becoming fewer."""
TELEMETRY = "telemetry.v1"
CHANGING = frozenset(["ALTER", "DELETE", "ALTER_CONFIGS", "CREATE"])
"""Rights that no process needs while it runs."""
LOOPBACK = ("127.", "localhost:", "[::1]:")


def check_cluster(settings: KafkaSettings, cells: Sequence[str]) -> list[Check]:
    """Run all checks; what cannot be asked without a failed one is left out. Never raises for the broker.

    Args:
        settings: Whom to ask, and as whom.
        cells: Paths of all cells.
    """
    checks = [_security(settings), *_addresses(settings)]
    if not any(check.ok for check in checks[1:]):
        return checks
    try:
        admin = connect(KafkaAdminClient, settings)
    except ConnectionFault as fault:
        return [*checks, failed("cluster", fault)]
    try:
        consumer = connect(KafkaConsumer, settings, group_id=None, enable_auto_commit=False)
        try:
            checks += _cluster_checks(admin, consumer, settings, cells)
        finally:
            consumer.close(autocommit=False)
    except ConnectionFault as fault:
        checks.append(failed("cluster", fault))
    except KafkaError as error:
        checks.append(failed("cluster", translate(error, settings, doing="look at the cluster")))
    finally:
        admin.close()
    return checks


def _security(settings: KafkaSettings) -> Check:
    near = all(address.startswith(LOOPBACK) for address in settings.bootstrap)
    ok = settings.security == "SASL_SSL" or settings.security == "SSL" or near
    where = ", on this machine only" if near else ""
    remedy = "Set kafka.security to SASL_SSL: what is sent can be read and changed on its way."
    return Check("security", ok, f"{settings.security} as {_who(settings)}{where}", "" if ok else remedy)


def _addresses(settings: KafkaSettings) -> Iterator[Check]:
    for address in settings.bootstrap:
        try:
            asyncio.run(probe(settings.model_copy(update={"bootstrap": (address,)})))
            yield Check(f"broker {address}", True, "answers")
        except ConnectionFault as fault:
            yield failed(f"broker {address}", fault)


def _cluster_checks(admin: Any, consumer: Any, settings: KafkaSettings, cells: Sequence[str]) -> Iterator[Check]:
    yield from _brokers(admin, settings)
    described = [each for each in admin.describe_topics([topic.name for topic in TOPICS]) if not each["error_code"]]
    yield from _topics(settings, [each["name"] for each in described])
    if not described:
        return
    yield _replicas(described, settings)
    yield _rights(described, settings)
    if any(each["name"] == TELEMETRY for each in described):
        for group, topic in GROUPS.items():
            yield _asked(f"group {group}", settings, partial(_group, admin, consumer, group, topic))
        yield _asked("clock", settings, partial(_clock, consumer, settings, cells))


def _asked(name: str, settings: KafkaSettings, ask: Callable[[], Check]) -> Check:
    """Ask what not every process has a right to see; that is no fault."""
    try:
        return ask()
    except KafkaError as error:
        fault = translate(error, settings, doing="look")
        if not isinstance(fault, AccessRefused):
            raise
        return Check(name, True, f"not known: {_who(settings)} has no right to see it")


def _topics(settings: KafkaSettings, visible: Sequence[str]) -> Iterator[Check]:
    """Compare the topics with what they must be, as far as our user may see their settings."""
    try:
        wrong = check_topics(settings)
    except AccessRefused:
        remedy = "Grant it as deploy/kafka/acls.toml says, or correct kafka.user."
        said = f"{', '.join(visible) or 'none'} can be used by {_who(settings)}; how they are set is not for it to see"
        yield Check("topics", bool(visible), said, "" if visible else remedy)
        return
    for each in wrong:
        yield Check(f"topic {each.topic}", False, f"{each.what} is {each.found}, must be {each.wanted}", each.remedy)
    names = {each.topic for each in wrong}
    if right := [name for name in visible if name not in names]:
        yield Check("topics", True, f"{', '.join(right)} are as they must be")


def _brokers(admin: Any, settings: KafkaSettings) -> Iterator[Check]:
    cluster = admin.describe_cluster()
    for broker in cluster["brokers"]:
        version = admin.get_broker_version_data(broker["broker_id"]).broker_version
        said = f"{broker['host']}:{broker['port']} speaks Kafka {'.'.join(map(str, version[:2]))} or later"
        yield Check(f"broker {broker['broker_id']}", True, said)
    n = len(cluster["brokers"])
    remedy = f"Start the others: a message needs {settings.in_sync_min} copies, and a topic has {settings.replication}."
    yield Check(
        "brokers", n >= settings.replication, f"{n} of the cluster", "" if n >= settings.replication else remedy
    )


def _replicas(described: Sequence[Mapping[str, Any]], settings: KafkaSettings) -> Check:
    """Compare the copies that are in step with those that there should be."""
    partitions = [(each["name"], part) for each in described for part in each["partitions"]]
    leaderless = [f"{name}/{p['partition_index']}" for name, p in partitions if p["leader_id"] < 0]
    behind = [
        f"{name}/{p['partition_index']}" for name, p in partitions if len(p["isr_nodes"]) < len(p["replica_nodes"])
    ]
    if leaderless:
        remedy = "Start the brokers that had it: nothing can be written to these, and collectors spool."
        return Check("copies", False, f"no leader: {_some(leaderless)}", remedy)
    if behind:
        remedy = f"See that every broker runs and has disk; below {settings.in_sync_min} nothing can be written."
        return Check("copies", False, f"not all in step: {_some(behind)}", remedy)
    return Check("copies", True, f"all of {len(partitions)} partitions are in step")


def _rights(described: Sequence[Mapping[str, Any]], settings: KafkaSettings) -> Check:
    """Tell what our user may do, and whether that is more than any process needs."""
    may = {each["name"]: set(each["authorized_operations"] or ()) for each in described}
    said = "; ".join(f"{name} {'+'.join(sorted(may[name] & {'READ', 'WRITE'})) or 'nothing'}" for name in sorted(may))
    if settings.user is None:
        return Check("rights", True, f"nobody is asked who he is: {said}")
    more = sorted({right for rights in may.values() for right in rights & CHANGING})
    remedy = f"Take {', '.join(more)} away: deploy/kafka/acls.toml has what each process needs."
    return Check("rights", not more, f"{_who(settings)} may {said}", remedy if more else "")


def _group(admin: Any, consumer: Any, group: str, topic: str) -> Check:
    name = f"group {group}"
    try:
        state = admin.describe_groups([group])[group]
    except CoordinatorNotAvailableError:
        return Check(name, True, "nobody ever worked in it")
    members_n, lag = len(state["members"]), _lag(admin, consumer, group, topic)
    if members_n and lag > LAG_MAX:
        time.sleep(LAG_WATCH_S)
        return _backlog(group, topic, lag, _lag(admin, consumer, group, topic))
    said = f"{members_n} members, {state['group_state'].lower()}" if members_n else "nobody works in it now"
    return Check(name, True, f"{said}; {lag} messages of {topic} wait")


def _backlog(group: str, topic: str, before: int, now: int) -> Check:
    remedy = "Start more workers, or see deploy/runbooks/worker-stuck.md."
    said = f"{now} messages of {topic} wait, {before} did {LAG_WATCH_S:g} s before"
    return Check(f"group {group}", now < before, said, "" if now < before else remedy)


def _lag(admin: Any, consumer: Any, group: str, topic: str) -> int:
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    committed = admin.list_group_offsets(group)[group]
    at = {place: committed[place].offset if place in committed else 0 for place in places}
    return sum(max(0, ends[place] - max(begins[place], at[place])) for place in places)


def _clock(consumer: Any, settings: KafkaSettings, cells: Sequence[str]) -> Check:
    """Compare the broker's clock with ours, by the time that it gives to messages which come while we look."""
    numbers = sorted({partition_of(cell, settings.partitions) for cell in cells})
    there = consumer.partitions_for_topic(TELEMETRY) or set()
    places = [TopicPartition(TELEMETRY, number) for number in numbers if number in there]
    if not places:
        return Check("clock", True, f"not known: {TELEMETRY} lacks the partitions of our cells")
    consumer.assign(places)
    consumer.seek_to_end(*places)
    until_s = time.monotonic() + CLOCK_WATCH_S
    offsets_s: list[float] = []
    while time.monotonic() < until_s and len(offsets_s) < 3:
        for records in consumer.poll(timeout_ms=200).values():
            offsets_s += [record.timestamp / 1e3 - time.time() for record in records]
    if not offsets_s:
        return Check("clock", True, f"not known: nothing came on {TELEMETRY} within {CLOCK_WATCH_S:g} s")
    # A message is older than its arrival here: of several, the newest says most.
    offset_s = max(offsets_s)
    ok = abs(offset_s) <= CLOCK_TOLERANCE_S
    remedy = "Let both follow one time server (NTP): retention and orders of events are by these clocks."
    return Check("clock", ok, f"the broker is {offset_s:+.3f} s from this machine", "" if ok else remedy)


def _who(settings: KafkaSettings) -> str:
    return f"user {settings.user.name!r}" if settings.user else "a client without user"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
