"""What `jidoka doctor` asks of a server: can we reach, trust, understand it, and do we have no more rights than needed.

Every check says what it saw and, if it is not well, what to do. Nothing is changed at the server.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from asyncua import Client, ua
from cryptography import x509

from connectors.check import Check, failed
from connectors.clock import Clock, ScaledClock
from connectors.opcua import pki
from connectors.opcua.faults import untrusted
from connectors.opcua.inspection import Inspection, inspect
from connectors.opcua.mapping import microseconds, parse_node, relative_path, status_name
from connectors.opcua.reading import find, locate, read_values, resolve, snapshot
from connectors.opcua.session import APPLICATION_URI, COMMON_NAME, fetch_certificate, open_session
from schemas.errors import ConfigError, ConnectionFault
from schemas.plant import Cell
from schemas.settings import OpcUaSettings

EXPIRY_WARNING_DAYS = 30
CLOCK_TOLERANCE_S = 1.0
"""Wall time. Half of the default lateness: a plant clock further off makes samples late or early."""
CLOCK_WATCH_S, CLOCK_LOOK_S = 2.0, 0.1
"""Wall time for which, and between, looks at the server's time until it changes."""


async def check_server(cell: Cell, settings: OpcUaSettings, clock: Clock) -> list[Check]:
    """Run all checks of one cell; what cannot be asked without a failed one is left out. Never raises for the plant."""
    return [check async for check in _checks(cell, settings, clock)]


async def _checks(cell: Cell, settings: OpcUaSettings, clock: Clock) -> AsyncIterator[Check]:
    for check in await _security(settings):
        yield check
    try:
        async with open_session(settings, settings.collector) as link:
            yield Check("session", True, f"open as {_who(settings)}")
            for check in await _session_checks(link.client, cell, clock):
                yield check
    except ConnectionFault as fault:
        yield failed("session", fault)
    if settings.actuator is not None:
        try:
            async with open_session(settings, settings.actuator) as link:
                yield Check("actuator session", True, f"open as {settings.actuator.name!r}")
                yield await _heartbeat_right(link.client, cell)
        except ConnectionFault as fault:
            yield failed("actuator session", fault)


async def _security(settings: OpcUaSettings) -> list[Check]:
    if settings.security == "None":
        return [Check("security", False, "None: everything is sent in clear", "Set opcua.security to SignAndEncrypt.")]
    folder = Path(settings.certificates)
    checks = [_own_certificate(folder)]
    try:
        der = await fetch_certificate(settings)
    except ConnectionFault as fault:
        return [*checks, failed("endpoint", fault)]
    checks.append(Check("endpoint", True, f"{settings.url} offers Basic256Sha256/SignAndEncrypt"))
    if not pki.is_trusted(folder, der):
        return [*checks, failed("server certificate", untrusted(folder, der, settings.url))]
    certificate = x509.load_der_x509_certificate(der)
    return [*checks, _expiry("server certificate", certificate, "Renew it in the server, then trust the new one.")]


def _own_certificate(folder: Path) -> Check:
    try:
        own = pki.ensure_certificate(folder, application_uri=APPLICATION_URI, common_name=COMMON_NAME)
        certificate = pki.read_certificate(own.certificate)
    except ConfigError as error:
        return Check("own certificate", False, f"{error.file}: {error.field}: {error.problem}", error.remedy)
    return _expiry("own certificate", certificate, f"Delete {own.certificate.parent}, start, trust it in the server.")


def _expiry(name: str, certificate: x509.Certificate, remedy: str) -> Check:
    days = (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days
    ok = days >= EXPIRY_WARNING_DAYS
    return Check(name, ok, f"{pki.thumbprint(certificate)}, {days} days left", "" if ok else remedy)


async def _session_checks(client: Client, cell: Cell, clock: Clock) -> list[Check]:
    inspection = await inspect(client, cell, cell.tags)
    return [
        await _clock_offset(client, cell, clock, inspection),
        *_tags(cell, inspection),
        _rights(inspection),
        *await _methods(client, cell),
        *await _permissives(client, cell),
    ]


async def _clock_offset(client: Client, cell: Cell, clock: Clock, inspection: Inspection) -> Check:
    """Compare the server's clock with ours; plant time that runs faster only shows in the source times of values."""
    speed = clock.speed if isinstance(clock, ScaledClock) else 1.0
    scaled = isinstance(clock, ScaledClock)
    nodes = list(inspection.nodes.values()) if scaled else [ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)]
    asked_at = clock.now_us()
    there_at = first_at = await _newest(client, nodes, scaled=scaled)
    # Many servers renew their time once a second: only a value that has just changed tells the offset.
    waits_n = round(CLOCK_WATCH_S / CLOCK_LOOK_S)
    while there_at == first_at and waits_n:
        await asyncio.sleep(CLOCK_LOOK_S)
        waits_n -= 1
        asked_at = clock.now_us()
        there_at = await _newest(client, nodes, scaled=scaled)
    answered_at = clock.now_us()
    if not there_at:
        return Check("clock", False, "the server tells no time", "Let the PLC set source timestamps.")
    # It changed between the last two looks: within those no offset can be seen; beyond, the nearer end counts.
    changed_at = asked_at - int(CLOCK_LOOK_S * speed * 1e6)
    offset_s = (max(0, there_at - answered_at) - max(0, changed_at - there_at)) / 1e6
    ok = abs(offset_s) <= CLOCK_TOLERANCE_S * speed
    remedy = "Let both follow one time server (NTP); samples beyond lateness_s come too late for their row."
    return Check("clock", ok, f"the server is {offset_s:+.3f} s from the agent", "" if ok else remedy)


async def _newest(client: Client, nodes: Sequence[ua.NodeId], *, scaled: bool) -> int:
    values = await read_values(client, nodes)
    if scaled:
        return max((microseconds(value.SourceTimestamp) for value in values), default=0)
    time = values[0].Value.Value if values[0].Value is not None else None
    return microseconds(time) if isinstance(time, datetime.datetime) else 0


def _tags(cell: Cell, inspection: Inspection) -> list[Check]:
    checks = []
    for tag in cell.tags:
        problems = [problem for problem in inspection.problems if problem.tag == tag.name]
        checks += [
            Check(
                f"tag {tag.name}", False, p.problem + (" (collected)" if p.collected else " (not collected)"), p.remedy
            )
            for p in problems
        ]
        if tag.node and not problems:
            checks.append(Check(f"tag {tag.name}", True, f"{tag.node} in {tag.unit!r}"))
    return checks


def _rights(inspection: Inspection) -> Check:
    if not inspection.writable:
        return Check("rights", True, "the collector's user may write no tag")
    names = ", ".join(inspection.writable)
    return Check("rights", False, f"the collector's user may write {names}", "Take its right to write away.")


async def _methods(client: Client, cell: Cell) -> list[Check]:
    checks = []
    for robot in cell.robots:
        (node,) = await resolve(client, [parse_node(robot.node, cell.namespace)])
        missing = ["Execute", "Query"]
        if isinstance(node, ua.NodeId):
            found = await find(client, [relative_path(node, [(name, node.NamespaceIndex)]) for name in missing])
            missing = [name for name, at in zip(missing, found, strict=True) if isinstance(at, str)]
        detail = f"{robot.node} lacks {', '.join(missing)}" if missing else f"{robot.node} offers Execute and Query"
        remedy = "Load the PLC program with the methods, or correct node in plant.toml." if missing else ""
        checks.append(Check(f"robot {robot.id}", not missing, detail, remedy))
    return checks


async def _permissives(client: Client, cell: Cell) -> list[Check]:
    wanted = {permissive.tag: permissive.value for permissive in cell.permissives}
    if cell.enable_tag:
        wanted[cell.enable_tag] = 1.0
    if not wanted:
        return []
    readings = await snapshot(client, cell, await locate(client, cell), list(wanted))
    checks = []
    for name, value in wanted.items():
        reading = readings[name]
        ok = reading.good and reading.value == value
        said = f"{reading.value:g}" if reading.value is not None else status_name(reading.status)
        remedy = "" if ok else "While it is so nothing is sent; look at the machine."
        checks.append(Check(f"permissive {name}", ok, f"is {said}, must be {value:g}", remedy))
    return checks


async def _heartbeat_right(client: Client, cell: Cell) -> Check:
    if not cell.agent_heartbeat_node:
        return Check("agent heartbeat", True, "none configured")
    (node,) = await resolve(client, [parse_node(cell.agent_heartbeat_node, cell.namespace)])
    remedy = "Correct agent_heartbeat_node, or let the actuator's user write it."
    if isinstance(node, str):
        return Check("agent heartbeat", False, f"node {cell.agent_heartbeat_node}: {node}", remedy)
    (access,) = await read_values(client, [node], attribute=ua.AttributeIds.UserAccessLevel)
    bits = access.Value.Value if access.Value is not None else None
    ok = isinstance(bits, int) and bool(bits & 1 << ua.AccessLevel.CurrentWrite)
    return Check(
        "agent heartbeat",
        ok,
        f"{cell.agent_heartbeat_node} {'can' if ok else 'cannot'} be written",
        "" if ok else remedy,
    )


def _who(settings: OpcUaSettings) -> str:
    return repr(settings.collector.name) if settings.collector else "the anonymous user"
