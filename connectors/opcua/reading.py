"""What is asked of a server without changing it: where nodes are and what they say now.

Everything is asked in batches of at most `NODES_PER_REQUEST_MAX`. Nothing here can write or call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from asyncua import Client, ua

from connectors.opcua.faults import LIBRARY_FAULTS
from connectors.opcua.mapping import (
    ById,
    ByPath,
    NodeAddress,
    browse_path,
    microseconds,
    node_id,
    number_and_status,
    parse_node,
    status_name,
)
from schemas.commands import Reading
from schemas.errors import ConnectionFault
from schemas.plant import Cell

_Answer = TypeVar("_Answer")

ANSWER_TIMEOUT_S = 5.0
"""Wall time that a server has for one request that only reads."""
NODES_PER_REQUEST_MAX = 100
"""The smallest limit among common controllers (CODESYS' default)."""


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


async def read_values(
    client: Client, nodes: Sequence[ua.NodeId], *, attribute: ua.AttributeIds = ua.AttributeIds.Value
) -> list[ua.DataValue]:
    """Read one attribute of each, values with both times and none older than now.

    Raises:
        ConnectionFault: the server did not answer.
    """
    return await read_attributes(client, [(node, attribute) for node in nodes])


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


async def read_attributes(client: Client, wanted: Sequence[tuple[ua.NodeId, ua.AttributeIds]]) -> list[ua.DataValue]:
    """Read attributes of nodes, with both times and none older than now, in the order of `wanted`.

    Raises:
        ConnectionFault: the server did not answer.
    """
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
