"""What is asked of a server without changing it: where nodes are, what they are, what they say now.

Everything is asked in batches of at most `NODES_PER_REQUEST_MAX`. Nothing here can write or call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from asyncua import Client, ua

from connectors.opcua.mapping import (
    ById,
    ByPath,
    NodeAddress,
    browse_path,
    is_good,
    microseconds,
    node_id,
    number_and_status,
    parse_node,
    relative_path,
    status_name,
)
from connectors.opcua.session import LIBRARY_FAULTS
from schemas.commands import Reading
from schemas.errors import ConnectionFault
from schemas.plant import Cell, Tag

_Answer = TypeVar("_Answer")

ANSWER_TIMEOUT_S = 5.0
"""Wall time that a server has for one request that only reads."""
NODES_PER_REQUEST_MAX = 100
"""The smallest limit among common controllers (CODESYS' default)."""
RANGE_TOLERANCE = 1e-6
"""EURange is often a Float: differences below this part of the span are its rounding."""
_NO_NUMBER = {12: "String", 13: "DateTime", 14: "Guid", 15: "ByteString", 16: "XmlElement", 17: "NodeId"}
_NO_NUMBER |= {18: "ExpandedNodeId", 20: "QualifiedName", 21: "LocalizedText", 22: "Structure"}
"""Built-in types (OPC 10000-6, table 1) that are never a sample."""


@dataclass(frozen=True, slots=True)
class TagProblem:
    """What is wrong with one tag at this server, and what a person can do."""

    tag: str
    problem: str
    remedy: str
    collected: bool
    """Whether it is collected nevertheless."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the server says about a cell's tags."""

    nodes: Mapping[str, ua.NodeId]
    """Tags that can be collected, by name."""
    problems: tuple[TagProblem, ...]
    writable: tuple[str, ...]
    """Tags that this session's user may write."""


async def resolve(client: Client, addresses: Sequence[NodeAddress]) -> list[ua.NodeId | str]:
    """Find nodes under the present namespace array.

    Returns:
        For each address its NodeId, or why there is none.

    Raises:
        ConnectionFault: the server did not answer.
    """
    namespaces = await ask(client.get_namespace_array())
    found: list[ua.NodeId | str] = [f"the server has no namespace {address.namespace!r}" for address in addresses]
    paths: list[tuple[int, ua.BrowsePath]] = []
    for index, address in enumerate(addresses):
        match address:
            case ById():
                found[index] = node_id(address, namespaces) or found[index]
            case ByPath():
                path = browse_path(address, namespaces)
                if path is not None:
                    paths.append((index, path))
    nodes = await find(client, [path for _, path in paths])
    for (index, _), node in zip(paths, nodes, strict=True):
        found[index] = node
    return found


async def find(client: Client, paths: Sequence[ua.BrowsePath]) -> list[ua.NodeId | str]:
    """Follow browse paths.

    Returns:
        For each its node, or the name of the status that says why there is none.

    Raises:
        ConnectionFault: the server did not answer.
    """
    found: list[ua.NodeId | str] = []
    for start in range(0, len(paths), NODES_PER_REQUEST_MAX):
        part = list(paths[start : start + NODES_PER_REQUEST_MAX])
        for result in await ask(client.uaclient.session.translate_browsepaths_to_nodeids(part)):
            if result.StatusCode.is_good() and result.Targets:
                target = result.Targets[0].TargetId
                found.append(ua.NodeId(target.Identifier, target.NamespaceIndex))
            else:
                found.append(status_name(result.StatusCode.value) if result.StatusCode.is_bad() else "BadNoMatch")
    return found


async def inspect(client: Client, cell: Cell, tags: Sequence[Tag]) -> Inspection:
    """Check nodes, types, rights, units and ranges of `tags` against `plant.toml`.

    Derived tags are passed over. A wrong type, missing right or other unit keeps a tag from being collected; a unit
    that the server does not tell, or another range, is a finding only.

    Raises:
        ConnectionFault: the server did not answer.
    """
    plain = [tag for tag in tags if tag.node]
    located = await resolve(client, [parse_node(tag.node, cell.namespace) for tag in plain])
    there = [(tag, node) for tag, node in zip(plain, located, strict=True) if isinstance(node, ua.NodeId)]
    problems = [
        TagProblem(tag.name, f"node {tag.node}: {why}", "Correct node in plant.toml or load the PLC program.", False)
        for tag, why in zip(plain, located, strict=True)
        if isinstance(why, str)
    ]
    nodes: dict[str, ua.NodeId] = {}
    writable: list[str] = []
    facts = await _facts(client, [node for _, node in there])
    for (tag, node), fact in zip(there, facts, strict=True):
        found = _judge(tag, fact)
        problems.extend(found)
        if all(problem.collected for problem in found):
            nodes[tag.name] = node
        if fact.user_access is not None and fact.user_access & (1 << ua.AccessLevel.CurrentWrite):
            writable.append(tag.name)
    return Inspection(nodes, tuple(problems), tuple(writable))


async def read_values(
    client: Client, nodes: Sequence[ua.NodeId], *, attribute: ua.AttributeIds = ua.AttributeIds.Value
) -> list[ua.DataValue]:
    """Read one attribute of each, values with both times and none older than now.

    Raises:
        ConnectionFault: the server did not answer.
    """
    return await _read(client, [(node, attribute) for node in nodes])


async def snapshot(
    client: Client, cell: Cell, nodes: Mapping[str, ua.NodeId], names: Sequence[str]
) -> dict[str, Reading]:
    """Read tags now, in one request (one for every `NODES_PER_REQUEST_MAX`); a derived one as difference of its two.

    Args:
        client: A session that is up.
        cell: Whose tags they are.
        nodes: Where each tag is, as `locate` found it.
        names: Tags to read.

    Returns:
        A Reading for each name; None as value, with the status, where there is no number.

    Raises:
        ConnectionFault: nothing could be read.
        KeyError: the cell has no such tag.
    """
    needed = dict.fromkeys(source for name in names for source in (cell.tag(name).minus or (name,)))
    there = {name: nodes[name] for name in needed if name in nodes}
    values = dict(zip(there, await read_values(client, list(there.values())), strict=True))
    plain = {name: _reading(values[name]) if name in values else _NOWHERE for name in needed}
    readings: dict[str, Reading] = {}
    for name in names:
        minus = cell.tag(name).minus
        readings[name] = _difference(plain[minus[0]], plain[minus[1]]) if minus else plain[name]
    return readings


async def locate(client: Client, cell: Cell) -> dict[str, ua.NodeId]:
    """Find the nodes of all tags of a cell; a tag that is not there is left out.

    Raises:
        ConnectionFault: the server did not answer.
    """
    tags = [tag for tag in cell.tags if tag.node]
    found = await resolve(client, [parse_node(tag.node, cell.namespace) for tag in tags])
    return {tag.name: node for tag, node in zip(tags, found, strict=True) if isinstance(node, ua.NodeId)}


async def ask(question: Awaitable[_Answer], *, timeout_s: float = ANSWER_TIMEOUT_S) -> _Answer:
    """Await a request that only reads, within a bound.

    Raises:
        ConnectionFault: the server refused it, or did not answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await question
    except TimeoutError as error:
        raise ConnectionFault(f"the server did not answer a request within {timeout_s} s. Check its load.") from error
    except LIBRARY_FAULTS as error:
        raise ConnectionFault(f"the server did not answer a request ({error!r}). Look into its log.") from error


@dataclass(frozen=True, slots=True)
class _Fact:
    """What the server says of one node; None where it says nothing."""

    status: int
    data_type: int | None
    access: int | None
    user_access: int | None
    value: object
    unit: str | None
    low: float | None
    high: float | None


def _judge(tag: Tag, fact: _Fact) -> list[TagProblem]:
    """Compare what the server says with what `plant.toml` says."""

    def finding(problem: str, remedy: str, *, collected: bool) -> TagProblem:
        return TagProblem(tag.name, f"node {tag.node}: {problem}", remedy, collected)

    if not is_good(fact.status):
        return [
            finding(status_name(fact.status), "Correct node in plant.toml or load the PLC program.", collected=False)
        ]
    if fact.access is not None and not fact.access & 1 << ua.AccessLevel.CurrentRead:
        return [finding("cannot be read", "Make the variable readable in the PLC.", collected=False)]
    if fact.user_access is not None and not fact.user_access & 1 << ua.AccessLevel.CurrentRead:
        return [finding("this user may not read it", "Give the collector's user the right to read.", collected=False)]
    if fact.data_type in _NO_NUMBER or isinstance(fact.value, (str, bytes, list)):
        kind = _NO_NUMBER.get(fact.data_type or 0, type(fact.value).__name__)
        return [
            finding(f"is a {kind}, not a scalar number", "Name a number or boolean in plant.toml.", collected=False)
        ]
    if fact.unit is not None and (fact.unit or "1") != tag.unit:
        problem = f"unit is {fact.unit!r} there and {tag.unit!r} in plant.toml"
        return [finding(problem, "Make both equal; nothing is converted.", collected=False)]
    findings = []
    if fact.unit is None and tag.unit != "1":
        problem = f"the server tells no unit; {tag.unit!r} is believed"
        findings.append(finding(problem, "Check it by hand, or give the variable EngineeringUnits.", collected=True))
    if fact.low is not None and fact.high is not None and not _same_range(tag, fact.low, fact.high):
        problem = f"EURange is {fact.low}..{fact.high} there and {tag.range.low}..{tag.range.high} in plant.toml"
        findings.append(finding(problem, "Make both equal; plant.toml's is used.", collected=True))
    return findings


def _same_range(tag: Tag, low: float, high: float) -> bool:
    slack = RANGE_TOLERANCE * (tag.range.high - tag.range.low)
    return abs(low - tag.range.low) <= slack and abs(high - tag.range.high) <= slack


async def _facts(client: Client, nodes: Sequence[ua.NodeId]) -> list[_Fact]:
    kinds = (
        ua.AttributeIds.Value, ua.AttributeIds.DataType, ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel,
    )  # fmt: skip
    attributes = await _read(client, [(node, kind) for node in nodes for kind in kinds])
    names = [relative_path(node, [(name, 0)]) for node in nodes for name in ("EngineeringUnits", "EURange")]
    found = await find(client, names)
    there = [node for node in found if isinstance(node, ua.NodeId)]
    values = iter(await read_values(client, there))
    properties = [_content(next(values)) if isinstance(node, ua.NodeId) else None for node in found]
    facts = []
    for index in range(len(nodes)):
        value, data_type, access, user_access = attributes[4 * index : 4 * index + 4]
        unit, limits = properties[2 * index : 2 * index + 2]
        facts.append(
            _Fact(
                _node_status(value),
                _built_in(_content(data_type)),
                _whole(_content(access)),
                _whole(_content(user_access)),
                _content(value),
                (unit.DisplayName.Text or "") if isinstance(unit, ua.EUInformation) else None,
                float(limits.Low) if isinstance(limits, ua.Range) else None,
                float(limits.High) if isinstance(limits, ua.Range) else None,
            )
        )
    return facts


_ABSENT = frozenset({0x80340000, 0x80330000, 0x80350000, 0x803A0000, 0x801F0000})
"""BadNodeIdUnknown, BadNodeIdInvalid, BadAttributeIdInvalid, BadNotReadable, BadUserAccessDenied: about the node. Any
other bad status of a value is about the process and belongs into the samples."""


def _node_status(value: ua.DataValue) -> int:
    status = number_and_status(value)[1] if value.StatusCode is not None else 0
    return status if status & 0xFFFF0000 in _ABSENT else 0


def _built_in(data_type: object) -> int | None:
    if isinstance(data_type, ua.NodeId) and data_type.NamespaceIndex == 0 and isinstance(data_type.Identifier, int):
        return int(data_type.Identifier)
    return None


def _whole(content: object) -> int | None:
    return content if isinstance(content, int) else None


def _content(value: ua.DataValue) -> Any:
    """Return what a good DataValue holds, else None."""
    good = value.StatusCode is None or value.StatusCode.is_good()
    return value.Value.Value if good and value.Value is not None else None


async def _read(client: Client, wanted: Sequence[tuple[ua.NodeId, ua.AttributeIds]]) -> list[ua.DataValue]:
    values: list[ua.DataValue] = []
    for start in range(0, len(wanted), NODES_PER_REQUEST_MAX):
        parameters = ua.ReadParameters()
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        for node, attribute in wanted[start : start + NODES_PER_REQUEST_MAX]:
            item = ua.ReadValueId()
            item.NodeId, item.AttributeId = node, attribute
            parameters.NodesToRead.append(item)
        values += await ask(client.uaclient.session.read(parameters))
    if len(values) != len(wanted):
        raise ConnectionFault(f"the server answered {len(values)} of {len(wanted)} values. Look into its log.")
    return values


_NOWHERE = Reading(value=None, status=0x80340000, source_at=0, server_at=0)
"""BadNodeIdUnknown: the node was not found when the session began."""


def _reading(value: ua.DataValue) -> Reading:
    number, status = number_and_status(value)
    return Reading(number, status, microseconds(value.SourceTimestamp), microseconds(value.ServerTimestamp))


def _difference(first: Reading, second: Reading) -> Reading:
    """As old as the older and as bad as the worse of the two."""
    source_at, server_at = min(first.source_at, second.source_at), min(first.server_at, second.server_at)
    if first.value is None or second.value is None:
        return Reading(None, (first if first.value is None else second).status, source_at, server_at)
    return Reading(first.value - second.value, max(first.status, second.status), source_at, server_at)
