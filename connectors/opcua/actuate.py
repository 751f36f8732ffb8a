"""The only module that can change anything at a server: calls `Execute` and `Query`, and writes the agent's heartbeat.

Nothing that only observes imports it. A command is sent once: whether a lost answer means "done" is for the robot's
ledger to say (`query`), never for a second attempt.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from asyncua import Node, ua
from asyncua.common.ua_utils import data_type_to_variant_type

from connectors.opcua.faults import LIBRARY_FAULTS
from connectors.opcua.mapping import parse_node, relative_path, status_name
from connectors.opcua.reading import ask, find, locate, resolve, snapshot
from connectors.opcua.session import Link, keep_session
from schemas.commands import Command, Reading
from schemas.errors import ConnectionFault
from schemas.outcomes import Answered, CommandState, NotSent, Outcome, Unknown, of_query
from schemas.plant import Cell, Robot
from schemas.settings import OpcUaSettings

STATES: Mapping[int, CommandState] = {1: "done", 2: "rejected", 3: "running", 4: "never_seen", 5: "forgotten"}
"""The first output of `Execute` and `Query`."""
NOT_EXECUTED = frozenset(
    {
        0x801F0000,  # BadUserAccessDenied
        0x80340000,  # BadNodeIdUnknown
        0x80330000,  # BadNodeIdInvalid
        0x80750000,  # BadMethodInvalid
        0x81110000,  # BadNotExecutable
        0x80760000,  # BadArgumentsMissing
        0x80E50000,  # BadTooManyArguments
        0x80AB0000,  # BadInvalidArgument
        0x80740000,  # BadTypeMismatch
        0x80250000,  # BadSessionIdInvalid
        0x80270000,  # BadSessionNotActivated
        0x80E60000,  # BadSecurityModeInsufficient
        0x800E0000,  # BadServerHalted
    }
)
"""With these the server says that it did not start the method (OPC 10000-4, 5.11.2). With any other it may have."""
_WHOLE = {
    ua.VariantType.SByte: 2**7, ua.VariantType.Byte: 2**8, ua.VariantType.Int16: 2**15, ua.VariantType.UInt16: 2**16,
    ua.VariantType.Int32: 2**31, ua.VariantType.UInt32: 2**32, ua.VariantType.Int64: 2**63,
    ua.VariantType.UInt64: 2**64,
}  # fmt: skip
"""Heartbeat types and the number at which the counter begins again at 0."""
_OTHER_BEATS = frozenset({ua.VariantType.Boolean, ua.VariantType.Float, ua.VariantType.Double})
_FLOAT_BEATS = 2**24
"""Whole numbers below it are exact in a Float."""


@dataclass(frozen=True, slots=True)
class _Station:
    """What was found in the present session."""

    link: Link
    tags: Mapping[str, ua.NodeId]
    robot: ua.NodeId | str
    methods: Mapping[str, ua.NodeId | str]
    heartbeat: ua.NodeId | str
    heartbeat_type: ua.VariantType | None


class OpcUaRobot:
    """One robot behind the methods `Execute` and `Query`, in a session of its own as the actuator's user."""

    def __init__(self, cell: Cell, robot: Robot, settings: OpcUaSettings, *, rng: np.random.Generator) -> None:
        """Prepare; nothing is connected before `run`.

        Args:
            cell: Its tags can be read in a snapshot.
            robot: Names the object that offers the methods.
            settings: Server and actuator user. Paths must be absolute or relative to the working folder.
            rng: For the back-off's jitter.

        Raises:
            ValueError: a node is written wrongly.
        """
        self._cell, self._robot, self._settings, self._rng = cell, robot, settings, rng
        self._address = parse_node(robot.node, cell.namespace)
        self._beat_address = (
            parse_node(cell.agent_heartbeat_node, cell.namespace) if cell.agent_heartbeat_node else None
        )
        self._station: _Station | None = None
        self._beats = 0
        self.fault = "not connected yet"
        """Why there is no session; empty while there is one."""

    async def run(self) -> None:
        """Keep the session until cancelled."""
        await keep_session(self._settings, self._settings.actuator, self._serve, rng=self._rng, on_fault=self._note)

    @property
    def connected(self) -> bool:
        """Whether a request given to it now would leave."""
        return self._station is not None and self._station.link.up

    async def snapshot(self, tags: Sequence[str]) -> Mapping[str, Reading]:
        """Read these tags now, in one request.

        Raises:
            ConnectionFault: nothing could be read, or the cell has no such tag.
        """
        unknown = set(tags) - {tag.name for tag in self._cell.tags}
        if unknown:
            raise ConnectionFault(f"{self._cell.path}: no tag is called {', '.join(sorted(unknown))}")
        station = self._station
        if station is None or not station.link.up:
            raise ConnectionFault(self._not_connected())
        return await snapshot(station.link.client, self._cell, station.tags, tags)

    async def execute(
        self, command: Command, *, command_sha256: str, epoch: int, ttl_s: float, timeout_s: float
    ) -> Outcome:
        """Call `Execute` once.

        Args:
            command: `args` and `from_values` have the same names; sent in the order of `args`.
            command_sha256: What was approved; the PLC refuses the same id with another hash.
            epoch: The PLC refuses one lower than it has seen.
            ttl_s: Counted by the PLC from receipt.
            timeout_s: Wall time to wait for the answer.

        Returns:
            NotSent only if it certainly did not leave. Unknown if there is no answer: the robot may have acted.
        """
        if command.args.keys() != command.from_values.keys():
            return NotSent(f"args {list(command.args)} and from_values {list(command.from_values)} differ in names")
        asked = [float(number) for number in command.args.values()]
        before = [float(command.from_values[name]) for name in command.args]
        if not all(math.isfinite(number) for number in asked + before):
            return NotSent(f"not all of args {asked} and from_values {before} are numbers")
        ttl_ms = round(ttl_s * 1000)
        if not 1 <= ttl_ms <= 0xFFFFFFFF:
            return NotSent(f"ttl_s {ttl_s} is outside 0.001..4294967 s")
        arguments = [
            ua.Variant(command.command_id, ua.VariantType.String),
            ua.Variant(epoch, ua.VariantType.Int64),
            ua.Variant(command_sha256, ua.VariantType.String),
            ua.Variant(command.verb, ua.VariantType.String),
            ua.Variant(asked, ua.VariantType.Double, is_array=True),
            ua.Variant(before, ua.VariantType.Double, is_array=True),
            ua.Variant(ttl_ms, ua.VariantType.UInt32),
        ]
        return await self._call("Execute", arguments, timeout_s)

    async def query(self, command_id: str, *, epoch: int, timeout_s: float) -> Outcome:
        """Ask the robot's ledger what became of a command; also fences every lower epoch.

        Args:
            command_id: As it was sent.
            epoch: Raises the robot's floor.
            timeout_s: Wall time to wait for the answer.

        Returns:
            NotSent or Unknown if the question got no answer; about the command itself they say nothing.
        """
        arguments = [ua.Variant(command_id, ua.VariantType.String), ua.Variant(epoch, ua.VariantType.Int64)]
        return of_query(await self._call("Query", arguments, timeout_s))

    async def beat(self) -> None:
        """Write the next count to the agent's heartbeat node, with the node's own type and no times.

        Raises:
            ConnectionFault: it is not written.
        """
        station = self._station
        if station is None or not station.link.up:
            raise ConnectionFault(self._not_connected())
        if isinstance(station.heartbeat, str) or station.heartbeat_type is None:
            raise ConnectionFault(f"agent_heartbeat_node {self._cell.agent_heartbeat_node!r}: {station.heartbeat}")
        self._beats += 1
        value = _beat(self._beats, station.heartbeat_type)
        (status,) = await ask(station.link.client.uaclient.session.write_attributes([station.heartbeat], [value]))
        if not status.is_good():
            raise ConnectionFault(
                f"agent_heartbeat_node {self._cell.agent_heartbeat_node!r}: {status_name(status.value)}. "
                "Give the actuator's user the right to write it."
            )

    async def _serve(self, link: Link) -> None:
        """Work of one session: find the nodes, then be there."""
        client = link.client
        robot, *beat = await resolve(client, [self._address, *([self._beat_address] if self._beat_address else [])])
        methods: dict[str, ua.NodeId | str] = dict.fromkeys(
            ("Execute", "Query"), f"no node {self._robot.node!r}: {robot}"
        )
        if isinstance(robot, ua.NodeId):
            found = await find(client, [relative_path(robot, [(name, robot.NamespaceIndex)]) for name in methods])
            methods = dict(zip(methods, found, strict=True))
        heartbeat: ua.NodeId | str = beat[0] if beat else "none is configured"
        kind = None
        if isinstance(heartbeat, ua.NodeId):
            kind = await self._beat_type(link, heartbeat)
            if kind not in _WHOLE and kind not in _OTHER_BEATS:
                heartbeat, kind = f"is a {kind.name}. Make it a number or a Boolean.", None
        self._station = _Station(link, await locate(client, self._cell), robot, methods, heartbeat, kind)
        self.fault = ""
        try:
            await asyncio.wait([link.lost])
        finally:
            self._station = None
        raise ConnectionFault(f"{self._settings.url}: {link.lost.result()}")

    async def _beat_type(self, link: Link, node: ua.NodeId) -> ua.VariantType:
        session = link.client.uaclient.session
        data_type = await ask(Node(session, node).read_data_type())
        return await ask(data_type_to_variant_type(Node(session, data_type)))

    async def _call(self, name: str, arguments: Sequence[ua.Variant], timeout_s: float) -> Outcome:
        station = self._station
        if station is None or not station.link.up:
            return NotSent(self._not_connected())
        method = station.methods[name]
        if isinstance(station.robot, str) or isinstance(method, str):
            return NotSent(f"{self._robot.node} offers no {name} ({method})")
        request = ua.CallMethodRequest()
        request.ObjectId, request.MethodId, request.InputArguments = station.robot, method, list(arguments)
        began_s = time.monotonic()
        # From here on the request may be in the socket: whatever goes wrong, nobody knows.
        try:
            async with asyncio.timeout(timeout_s):
                results = await station.link.client.uaclient.session.call([request])
        except TimeoutError:
            return Unknown(time.monotonic() - began_s, f"no answer to {name} within {timeout_s} s")
        except ua.UaStatusCodeError as error:
            return _refused(int(error.code), name, time.monotonic() - began_s)
        except LIBRARY_FAULTS as error:
            return Unknown(time.monotonic() - began_s, f"connection lost during {name} ({error!r})")
        return _outcome(results, name, time.monotonic() - began_s)

    def _not_connected(self) -> str:
        return f"no session with {self._settings.url}: {self.fault or 'connection lost just now'}"

    def _note(self, fault: ConnectionFault) -> None:
        self.fault = str(fault)


def _refused(status: int, name: str, waited_s: float) -> Outcome:
    code = status & 0xFFFF0000
    if code in NOT_EXECUTED:
        return Answered("rejected", code, f"{name} not executed: {status_name(code)}")
    return Unknown(waited_s, f"{name} answered with {status_name(code)}")


def _outcome(results: Sequence[ua.CallMethodResult], name: str, waited_s: float) -> Outcome:
    """Read the method's answer; one that is not of the agreed form says nothing."""
    if len(results) != 1:
        return Unknown(waited_s, f"{name} answered with {len(results)} results")
    (result,) = results
    if not result.StatusCode.is_good():
        return _refused(int(result.StatusCode.value), name, waited_s)
    match [variant.Value for variant in result.OutputArguments]:
        case [int(state), int(code), (str() | None) as detail] if state in STATES:
            return Answered(STATES[state], code, detail or "")
        case other:
            return Unknown(waited_s, f"{name} answered {other!r}, not (State 1..5, Code, Detail)")


def _beat(beats: int, kind: ua.VariantType) -> ua.DataValue:
    if kind is ua.VariantType.Boolean:
        count: bool | float = beats % 2 == 1
    elif kind in _OTHER_BEATS:
        count = float(beats % _FLOAT_BEATS)
    else:
        count = beats % _WHOLE[kind]
    # No StatusCode and no times: S7 and others answer BadWriteNotSupported to anything but a bare value.
    return ua.DataValue(ua.Variant(count, kind), None)
