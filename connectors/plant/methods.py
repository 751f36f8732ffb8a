"""The methods of the cell's server: names, typed arguments, and what they call.

Arguments are checked here for number and type, so that what a method does can trust its signature.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.ua import ObjectIds

from connectors.plant.access import SIMULATION_METHODS
from connectors.plant.nodes import AddressSpace
from connectors.plant.plc import Answer
from connectors.plant.station import Station

LOST_S_MAX = 3600.0

_log = logging.getLogger(__name__)

Slot = tuple[str, int, bool]
"""Name, data type, whether it is an array."""
Doer = Callable[..., Awaitable[list[ua.Variant] | ua.StatusCode]]

EXECUTE_IN: list[Slot] = [
    ("CommandId", ObjectIds.String, False), ("Epoch", ObjectIds.Int64, False), ("ArgsSha256", ObjectIds.String, False),
    ("Verb", ObjectIds.String, False), ("Args", ObjectIds.Double, True), ("From", ObjectIds.Double, True),
    ("TtlMs", ObjectIds.UInt32, False),
]  # fmt: skip
QUERY_IN: list[Slot] = [("CommandId", ObjectIds.String, False), ("Epoch", ObjectIds.Int64, False)]
ANSWER_OUT: list[Slot] = [
    ("State", ObjectIds.Int32, False), ("Code", ObjectIds.Int32, False), ("Detail", ObjectIds.String, False)
]  # fmt: skip
SIMULATION_IN: dict[str, list[Slot]] = {
    "Inject": [
        ("Fault", ObjectIds.String, False), ("Severity", ObjectIds.Double, False), ("Tag", ObjectIds.String, False)
    ],
    "ClearFaults": [],
    "SetSetpoint": [("Name", ObjectIds.String, False), ("Value", ObjectIds.Double, False)],
    "SetPermissive": [("Name", ObjectIds.String, False), ("Value", ObjectIds.Boolean, False)],
    "Unhold": [],
    "Reset": [],
    "LoseConnection": [("Seconds", ObjectIds.Double, False)],
    "Restart": [],
}  # fmt: skip
assert SIMULATION_IN.keys() == set(SIMULATION_METHODS)


@dataclass(frozen=True, slots=True)
class LoseConnection:
    """The server drops everybody and does not listen for a while; the plant goes on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Restart:
    """The PLC restarts."""


Outage = LoseConnection | Restart


class Methods:
    """What clients can call, bound to one station."""

    def __init__(
        self, station: Station, *, changed: Callable[[], Awaitable[None]], outage: Callable[[Outage], None]
    ) -> None:
        """Begin.

        Args:
            station: What the methods act on.
            changed: Called after anything that may have to be seen at once.
            outage: Takes the wish for an outage.
        """
        self._station, self._changed, self._outage = station, changed, outage

    async def add(self, space: AddressSpace, cell: str) -> dict[ua.NodeId, str]:
        """Add all methods below `/<cell>` and `/Simulation`; return their string identifiers by node id."""
        described: list[tuple[str, list[Slot], list[Slot], Callable[..., Any]]] = [
            (f"/{cell}/Execute", EXECUTE_IN, ANSWER_OUT, self._execute),
            (f"/{cell}/Query", QUERY_IN, ANSWER_OUT, self._query),
        ]
        hands: dict[str, Callable[..., Any]] = {
            "Inject": self._station.inject,
            "ClearFaults": self._station.clear_faults,
            "SetSetpoint": lambda name, value: self._station.plc.set_by_hand(name, value),
            "SetPermissive": self._station.set_permissive,
            "Unhold": lambda: _must(self._station.plc.unhold(), "the cell is not held"),
            "Reset": lambda: _must(self._station.plc.reset(), "not aborted, or the emergency-stop circuit is open"),
            "LoseConnection": self._lose,
            "Restart": lambda: self._outage(Restart()),
        }
        described += [(f"/Simulation/{name}", inputs, [], hands[name]) for name, inputs in SIMULATION_IN.items()]
        nodes = {}
        for path, inputs, outputs, do in described:
            nodes[await space.method(path, self._checked(path, inputs, do), inputs, outputs)] = path[1:].replace(
                "/", "."
            )
        return nodes

    def _checked(self, path: str, inputs: Sequence[Slot], do: Callable[..., Any]) -> Doer:
        async def call(_parent: ua.NodeId, *given: ua.Variant) -> list[ua.Variant] | ua.StatusCode:
            if len(given) != len(inputs):
                few = len(given) < len(inputs)
                return ua.StatusCode(ua.StatusCodes.BadArgumentsMissing if few else ua.StatusCodes.BadTooManyArguments)
            if not all(_fits(variant, slot) for variant, slot in zip(given, inputs, strict=True)):
                return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
            values = [(v.Value or []) if slot[2] else v.Value for v, slot in zip(given, inputs, strict=True)]
            try:
                answer = do(*values)
            except ValueError as error:
                _log.warning("%s refused: %s", path, error)
                return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
            await self._changed()
            return answer if isinstance(answer, list) else []

        return call

    def _execute(
        self,
        command_id: str,
        epoch: int,
        args_sha256: str,
        verb: str,
        args: list[float],
        from_values: list[float],
        ttl_ms: int,
    ) -> list[ua.Variant]:
        return _outputs(self._station.plc.execute(command_id, epoch, args_sha256, verb, args, from_values, ttl_ms))

    def _query(self, command_id: str, epoch: int) -> list[ua.Variant]:
        return _outputs(self._station.plc.query(command_id, epoch))

    def _lose(self, seconds: float) -> None:
        if not 0.0 <= seconds <= LOST_S_MAX:
            raise ValueError(f"{seconds} s is outside 0..{LOST_S_MAX} s")
        self._outage(LoseConnection(seconds))


def _outputs(answer: Answer) -> list[ua.Variant]:
    return [
        ua.Variant(int(answer.state), ua.VariantType.Int32),
        ua.Variant(int(answer.code), ua.VariantType.Int32),
        ua.Variant(answer.detail, ua.VariantType.String),
    ]


def _fits(variant: ua.Variant, slot: Slot) -> bool:
    _, datatype, array = slot
    if array and variant.Value is None:
        return True
    if variant.Value is None or variant.VariantType.value != datatype:
        return False
    return isinstance(variant.Value, list) == array


def _must(done: bool, otherwise: str) -> None:
    if not done:
        raise ValueError(otherwise)
