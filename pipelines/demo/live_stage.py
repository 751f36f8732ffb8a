"""The stages on which the plant is a process of its own, behind its OPC UA server.

Faults go through its simulation object, under a user that the agent cannot be. The agent is in this process; for one
that runs elsewhere there is `pipelines.demo.remote_stage`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asyncua import ua

from agent.cell import CellState
from agent.ports import Clock
from connectors.opcua.session import open_session
from pipelines.demo.stage import POLL_S, SCRIPT, operator_request
from pipelines.runner import Runtime
from schemas.facts import AnyFact
from schemas.settings import OpcUaSettings, User


class Hands:
    """What somebody can do to the plant itself."""

    def __init__(self, plant: OpcUaSettings, simulation: User, clock: Clock) -> None:
        """Take hold.

        Args:
            plant: How the agent reaches the plant.
            simulation: The user that may break things; the agent has no such right.
            clock: Agent time.
        """
        self._plant, self._user, self._clock = plant, simulation, clock

    async def inject(self, fault: str, severity: float = 1.0, tag: str = "") -> int:
        """Break something."""
        await self.call("Inject", ua.Variant(fault), ua.Variant(severity, ua.VariantType.Double), ua.Variant(tag))
        return self._clock.now_us()

    async def set_by_hand(self, setpoint: str, value: float) -> None:
        """Change a set-point at the machine."""
        await self.call("SetSetpoint", ua.Variant(setpoint), ua.Variant(value, ua.VariantType.Double))

    async def lose_server(self, seconds: float) -> None:
        """Take the server away for a while of wall time."""
        await self.call("LoseConnection", ua.Variant(seconds, ua.VariantType.Double))

    async def call(self, method: str, *arguments: ua.Variant) -> None:
        """Call a method of the simulation object."""
        async with open_session(self._plant, self._user) as link:
            index = await link.client.get_namespace_index("urn:jidoka:plant")
            simulation = await link.client.nodes.objects.get_child(f"{index}:Simulation")
            await simulation.call_method(f"{index}:{method}", *arguments)


class LiveStage(Hands):
    """With the agent in this process."""

    def __init__(
        self, runtime: Runtime, plant: OpcUaSettings, simulation: User, speed: float, *, who: str = SCRIPT
    ) -> None:
        """Take the stage.

        Args:
            runtime: The running agent; its first cell is on stage.
            plant: How the agent reaches the plant.
            simulation: The user that may break things; the agent has no such right.
            speed: Plant time per wall time.
            who: Under whose name the log has the operator's requests.
        """
        super().__init__(plant, simulation, runtime.clock)
        self._who = who
        self._runtime = runtime
        self._service = next(iter(runtime.services.values()))
        self.facts: list[AnyFact] = []
        self.speed = speed
        self._service.listeners.append(self.facts.extend)

    @property
    def state(self) -> CellState:
        """The agent's present state."""
        return self._service.state

    async def operate(self, kind: str, target: str = "", reason: str = "", **args: float) -> dict[str, Any]:
        """Be the operator."""
        return await operator_request(
            self._service, self._who, self._runtime.clock.now_us(), kind, target, reason, args
        )

    async def wait(self, ready: Callable[[], bool], within_s: float) -> bool:
        """Let time pass until `ready`.

        Raises:
            JidokaError: the agent stopped.
        """
        until_us = self._runtime.clock.now_us() + int(within_s * 1e6)
        while not ready() and self._runtime.clock.now_us() < until_us:
            if self._runtime.failure is not None:
                raise self._runtime.failure
            await asyncio.sleep(POLL_S)
        return ready()
