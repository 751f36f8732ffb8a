"""The cell's address space: every tag of `plant.toml` as a variable at its browse path, with unit and range.

Identifiers are strings, the browse path with dots: `/Cell1/Gripper/GripForce` is `ns=...;s=Cell1.Gripper.GripForce`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncua import Node, Server, ua
from asyncua.ua import ObjectIds

from connectors.plant.tags import STATUS_WAITING, SWITCHES
from schemas.plant import Cell, Tag

UNECE: dict[str, str] = {
    "N": "NEW", "A": "AMP", "mm": "MMT", "s": "SEC", "degC": "CEL", "%": "P1", "1": "C62",
}  # fmt: skip
"""UN/ECE Recommendation 20 codes of the units in use; UnitId is their letters as a big-endian number (OPC 10000-8)."""
UNECE_URI = "http://www.opcfoundation.org/UA/units/un/cefact"


class AddressSpace:
    """Builds nodes below Objects in one namespace."""

    def __init__(self, server: Server, namespace: int) -> None:
        self._server, self._namespace = server, namespace
        self._objects: dict[tuple[str, ...], Node] = {(): server.nodes.objects}

    async def tags(self, config: Cell) -> dict[str, ua.NodeId]:
        """Add all tags that have a node; return their ids by tag name."""
        return {tag.name: await self._tag(tag) for tag in config.tags if tag.minus is None}

    async def variable(self, path: str, value: ua.Variant, datatype: int) -> ua.NodeId:
        """Add a plain variable that clients may be allowed to write."""
        node = await self._add(path, value, datatype, ObjectIds.BaseDataVariableType, writable=True)
        return node.nodeid

    async def method(
        self,
        path: str,
        call: Callable[..., Any],
        inputs: list[tuple[str, int, bool]],
        outputs: list[tuple[str, int, bool]],
    ) -> ua.NodeId:
        """Add a method. Arguments are name, data type and whether it is an array."""
        *parents, name = _split(path)
        parent = await self._object(tuple(parents))
        node = await parent.add_method(
            self._id(path), ua.QualifiedName(name, self._namespace), call, _arguments(inputs), _arguments(outputs)
        )
        return node.nodeid

    async def _tag(self, tag: Tag) -> ua.NodeId:
        switch = tag.name in SWITCHES
        kind = ObjectIds.BaseDataVariableType if switch else ObjectIds.AnalogUnitRangeType
        datatype = ObjectIds.Boolean if switch else ObjectIds.Double
        nothing = ua.Variant(None, ua.VariantType.Null)
        node = await self._add(tag.node, nothing, datatype, kind, writable=tag.name == "agent_enable")
        if not switch:
            await self._property(node, "EURange", ua.Range(tag.range.low, tag.range.high), ObjectIds.Range)
            await self._property(node, "EngineeringUnits", _unit(tag.unit), ObjectIds.EUInformation)
        return node.nodeid

    async def _add(self, path: str, value: ua.Variant, datatype: int, kind: int, *, writable: bool) -> Node:
        *parents, name = _split(path)
        parent = await self._object(tuple(parents))
        level = ua.AccessLevel.CurrentRead.mask | (ua.AccessLevel.CurrentWrite.mask if writable else 0)
        item = ua.AddNodesItem(
            RequestedNewNodeId=self._id(path),
            BrowseName=ua.QualifiedName(name, self._namespace),
            NodeClass=ua.NodeClass.Variable,
            ParentNodeId=parent.nodeid,
            ReferenceTypeId=ua.NodeId(ObjectIds.HasComponent),
            TypeDefinition=ua.NodeId(kind),
            NodeAttributes=ua.VariableAttributes(
                DisplayName=ua.LocalizedText(name),
                Description=ua.LocalizedText(name),
                Value=value,
                DataType=ua.NodeId(datatype),
                ValueRank=ua.ValueRank.Scalar,
                ArrayDimensions=None,
                AccessLevel=level,
                UserAccessLevel=ua.AccessLevel.CurrentRead.mask,
            ),
        )
        (result,) = await self._server.iserver.isession.add_nodes([item])
        result.StatusCode.check()
        if value.VariantType is ua.VariantType.Null:
            waiting = ua.DataValue(StatusCode=ua.StatusCode(STATUS_WAITING))
            await self._server.write_attribute_value(result.AddedNodeId, waiting)
        return self._server.get_node(result.AddedNodeId)

    async def _object(self, names: tuple[str, ...]) -> Node:
        if names not in self._objects:
            parent = await self._object(names[:-1])
            self._objects[names] = await parent.add_object(
                ua.NodeId(".".join(names), self._namespace), ua.QualifiedName(names[-1], self._namespace)
            )
        return self._objects[names]

    async def _property(self, node: Node, name: str, value: Any, datatype: int) -> None:
        identifier = ua.NodeId(f"{node.nodeid.Identifier}.{name}", self._namespace)
        await node.add_property(identifier, ua.QualifiedName(name, 0), value, datatype=ua.NodeId(datatype))

    def _id(self, path: str) -> ua.NodeId:
        return ua.NodeId(".".join(_split(path)), self._namespace)


def _split(path: str) -> list[str]:
    return path.strip("/").split("/")


def _unit(text: str) -> ua.EUInformation:
    code = UNECE.get(text, "")
    return ua.EUInformation(
        NamespaceUri=UNECE_URI,
        UnitId=int.from_bytes(code.encode(), "big") if code else -1,
        DisplayName=ua.LocalizedText(text),
        Description=ua.LocalizedText(text),
    )


def _arguments(described: list[tuple[str, int, bool]]) -> list[ua.Argument]:
    return [
        ua.Argument(
            Name=name,
            DataType=ua.NodeId(datatype),
            ValueRank=ua.ValueRank.OneDimension if array else ua.ValueRank.Scalar,
            ArrayDimensions=[0] if array else [],
        )
        for name, datatype, array in described
    ]
