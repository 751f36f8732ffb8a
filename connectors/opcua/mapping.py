"""From OPC UA's words to ours: node texts to addresses, DataValues to samples, StatusCodes to names. Pure.

It holds no session and reads no clock: `reading` asks the server where an address is, `subscribe` brings the values.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

from asyncua import ua

from connectors.ordering import Sample

STATUS_BAD_TYPE_MISMATCH = 0x80740000
"""Given to a Good value that is no number (text, array, structure, nothing): Good must mean a usable type."""
OVERFLOW_MASK, OVERFLOW_BITS = 0xC80, 0x480
"""InfoType DataValue (bits 10-11 = 01) with the Overflow bit (7): OPC 10000-4, 7.39."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ById:
    """A node by its identifier, which is the same in every session; its namespace's index is not."""

    namespace: str
    identifier: str
    """With its kind: `s=Press3.Torque` or `i=1001`."""


@dataclass(frozen=True, slots=True)
class ByPath:
    """A node by its way from Objects, all browse names in one namespace."""

    namespace: str
    names: tuple[str, ...]


NodeAddress = ById | ByPath


def parse_node(text: str, namespace: str) -> NodeAddress:
    """Read a node as `plant.toml` writes it.

    Args:
        text: `nsu=URI;s=NAME`, `nsu=URI;i=NUMBER` or `/A/B/C`.
        namespace: The cell's namespace URI, in which paths are written.

    Raises:
        ValueError: anything else; a namespace *index* too, because it changes when the server restarts.

    >>> parse_node("/Cell1/Gripper", "urn:plant")
    ByPath(namespace='urn:plant', names=('Cell1', 'Gripper'))
    >>> parse_node("nsu=urn:plant;s=a;b", "urn:other")
    ById(namespace='urn:plant', identifier='s=a;b')
    """
    if text.startswith("/"):
        names = tuple(text[1:].split("/"))
        if not all(names):
            raise ValueError(f"node {text!r} has an empty name: write a path as /A/B/C")
        return ByPath(namespace, names)
    uri, separator, identifier = text.removeprefix("nsu=").partition(";")
    kind, value = identifier[:2], identifier[2:]
    numeric = kind == "i=" and value.isascii() and value.isdigit() and int(value) <= 0xFFFFFFFF
    if text.startswith("nsu=") and uri and separator and (numeric or (kind == "s=" and value)):
        return ById(uri, identifier)
    raise ValueError(
        f"node {text!r} is neither a path /A/B/C nor nsu=URI;s=NAME nor nsu=URI;i=NUMBER: write one of these "
        "(no ns=INDEX: indexes change when a server restarts)"
    )


def node_id(address: ById, namespaces: Sequence[str]) -> ua.NodeId | None:
    """Return the NodeId under the server's present namespace array; None: it has no such namespace."""
    if address.namespace not in namespaces:
        return None
    index, identifier = namespaces.index(address.namespace), address.identifier[2:]
    return ua.NodeId(int(identifier) if address.identifier.startswith("i=") else identifier, index)


def browse_path(address: ByPath, namespaces: Sequence[str]) -> ua.BrowsePath | None:
    """Return the request that asks for the node; None: the server has no such namespace."""
    if address.namespace not in namespaces:
        return None
    index = namespaces.index(address.namespace)
    return relative_path(ua.NodeId(ua.ObjectIds.ObjectsFolder), [(name, index) for name in address.names])


def relative_path(start: ua.NodeId, names: Sequence[tuple[str, int]]) -> ua.BrowsePath:
    """Return the request for the node that is found from `start` over these (name, namespace index) pairs."""
    path = ua.BrowsePath()
    path.StartingNode = start
    path.RelativePath.Elements = [_hop(name, index) for name, index in names]
    return path


def _hop(name: str, index: int) -> ua.RelativePathElement:
    element = ua.RelativePathElement()
    element.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
    element.IsInverse = False
    element.IncludeSubtypes = True
    element.TargetName = ua.QualifiedName(name, index)
    return element


def sample_of(value: ua.DataValue, received_at: int) -> Sample:
    """Take a DataValue apart.

    Numbers and booleans are values. NaN and infinities become NaN under their own status; text, arrays, structures
    and null become NaN, and if the server called them Good they get `STATUS_BAD_TYPE_MISMATCH`. Integers beyond 2^53
    lose their last digits.

    Args:
        value: As it came.
        received_at: Agent time, microseconds since 1970 UTC: stands in where the server gave no time at all.
    """
    server_at = microseconds(value.ServerTimestamp)
    source_at = microseconds(value.SourceTimestamp) or server_at or received_at
    number, status = number_and_status(value)
    return Sample(source_at, server_at or received_at, math.nan if number is None else number, status)


def number_and_status(value: ua.DataValue) -> tuple[float | None, int]:
    """Return the finite number, or None, and the status by the rule of `sample_of`."""
    status = int(value.StatusCode.value) if value.StatusCode is not None else 0
    raw = value.Value.Value if value.Value is not None else None
    # Integers of the protocol have at most 64 bits and always fit a float.
    if isinstance(raw, (bool, int, float)):
        return (float(raw) if math.isfinite(raw) else None), status
    return None, (STATUS_BAD_TYPE_MISMATCH if is_good(status) else status)


def microseconds(time: datetime.datetime | None) -> int:
    """Return microseconds since 1970 UTC; 0 for a time that is missing or not after 1970, as servers write none."""
    if time is None:
        return 0
    aware = time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)
    return max(0, (aware - _EPOCH) // _MICROSECOND)


def is_good(status: int) -> bool:
    """Tell whether the severity bits say Good. Uncertain is not good."""
    return status >> 30 == 0


def overflowed(status: int) -> bool:
    """Tell whether the server's queue dropped values of this item just before this one.

    >>> overflowed(0x480), overflowed(0x80340000)
    (True, False)
    """
    return status & OVERFLOW_MASK == OVERFLOW_BITS


def status_name(status: int) -> str:
    """Return the name of a StatusCode without its info bits, e.g. `BadNodeIdUnknown`.

    >>> status_name(0x80340480)
    'BadNodeIdUnknown'
    """
    name: str = ua.StatusCode(status & 0xFFFF0000).name
    return name
