"""Compares what a server says of a cell's nodes with `plant.toml`: type, rights, unit, range. Reads only.

Findings are for people; the decision that a tag is not collected is made here, once, for collector and doctor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import Client, ua

from connectors.opcua.mapping import is_good, number_and_status, parse_node, relative_path, status_name
from connectors.opcua.reading import find, read_attributes, read_values, resolve
from schemas.plant import Cell, Tag

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
    attributes = await read_attributes(client, [(node, kind) for node in nodes for kind in kinds])
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
