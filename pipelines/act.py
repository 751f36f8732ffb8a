"""Wiring of mode `act`: what observe has, and robots, executor and the agent's heartbeat."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np

from agent.guard.question import Rulebook
from agent.ports import Clock
from connectors.robots import ROBOTS, ConnectedRobot
from pipelines.config import Configuration
from pipelines.decide import CellService
from pipelines.executor import Executor, Machines
from pipelines.hosting import Companion, Folders, Parts, clock_of
from pipelines.observe import collector, notifiers
from pipelines.reasoning import Reasoners
from schemas.errors import ConnectionFault

BEAT_S = 0.5
"""Wall time between two beats; a PLC rejects commands after a few missed ones."""
FIRST_BEAT_S = 0.05
"""Wall time between two attempts as long as none was heard."""
HEALTHY_S = 5.0
"""Wall time since the last input up to which the decision pipeline counts as healthy."""


class Acting:
    """Makes the robots of each cell once, and shares them among executor, sessions and heartbeat."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._clock = clock_of(configuration.settings)
        self._reasoners = Reasoners(configuration)
        rng = np.random.default_rng()
        settings = configuration.settings.opcua
        self._robots: dict[str, dict[str, ConnectedRobot]] = {
            cell.path: {r.id: ROBOTS[r.kind](cell, r, settings, rng) for r in cell.robots}
            for cell in configuration.plant.cells
        }

    def executor(self, service: CellService, rules: Rulebook) -> Executor:
        """Return what fulfils the wishes of one cell."""
        machines = Machines(
            self._robots[rules.cell.path],
            Folders(self._configuration.data).off_file,
            self._configuration.settings.readback_s,
        )
        return Executor(
            service,
            rules,
            self._clock,
            machines,
            self._reasoners.of(rules.cell),
            notifiers(self._configuration),
        )

    async def sessions(self, service: CellService) -> None:
        """Keep every robot's session."""
        async with asyncio.TaskGroup() as group:
            for robot in self._robots[service.cell].values():
                group.create_task(robot.run())

    @property
    def probing(self) -> list[Companion]:
        """What keeps the models' servers probed; nothing without any."""

        async def probes(service: CellService) -> None:
            await self._reasoners.keep_probed()

        return [probes] if self._reasoners.servers else []

    async def heartbeat(self, service: CellService) -> None:
        """Beat while the decision pipeline is healthy; a PLC that misses it takes no commands."""
        robots, heard = self._robots[service.cell], False
        while robots:
            # The first beat of a session goes at once: a command that waited for the session would be rejected.
            await asyncio.sleep(BEAT_S if heard else FIRST_BEAT_S)
            heard = False
            if healthy(service, self._clock, self._configuration.settings.clock.speed):
                with contextlib.suppress(ConnectionFault):
                    await next(iter(robots.values())).beat()
                    heard = True


def healthy(service: CellService, clock: Clock, speed: float) -> bool:
    """Whether input arrives and is decided upon."""
    return service.failed is None and (clock.now_us() - service.last_input_us) / 1e6 <= HEALTHY_S * speed


def act_parts(configuration: Configuration) -> Parts:
    """Return the parts of an agent that acts."""
    acting = Acting(configuration)
    return Parts(
        source=collector(configuration, np.random.default_rng()),
        fulfiller=acting.executor,
        companions=[acting.sessions, acting.heartbeat, *acting.probing],
    )
