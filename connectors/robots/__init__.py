"""The kinds of robot that `plant.toml` can name, in one table.

What can write is imported only when a robot is made, so that observing never loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from schemas.commands import Command, Reading
from schemas.outcomes import Outcome
from schemas.plant import Cell, Robot
from schemas.settings import OpcUaSettings


class ConnectedRobot(Protocol):
    """The port `Robot`, and what keeps it connected."""

    fault: str

    @property
    def connected(self) -> bool:
        """Whether a request given to it now would leave."""

    async def run(self) -> None:
        """Keep the connection until cancelled."""

    async def snapshot(self, tags: Sequence[str]) -> Mapping[str, Reading]:
        """Read these tags now."""

    async def execute(
        self, command: Command, *, command_sha256: str, epoch: int, ttl_s: float, timeout_s: float
    ) -> Outcome:
        """Send once."""

    async def query(self, command_id: str, *, epoch: int, timeout_s: float) -> Outcome:
        """Ask what became of a command."""

    async def beat(self) -> None:
        """Tell the robot that the agent is healthy."""


RobotFactory = Callable[[Cell, Robot, OpcUaSettings, np.random.Generator], ConnectedRobot]


def _opcua_methods(cell: Cell, robot: Robot, settings: OpcUaSettings, rng: np.random.Generator) -> ConnectedRobot:
    from connectors.opcua.actuate import OpcUaRobot

    return OpcUaRobot(cell, robot, settings, rng=rng)


ROBOTS: Mapping[str, RobotFactory] = {"opcua_methods": _opcua_methods}
"""kind -> how to make one."""
