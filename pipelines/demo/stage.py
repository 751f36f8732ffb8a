"""What a scene may do: break the plant, wait for facts, and be the operator. Two stages, the same scenes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from agent.cell import CellState
from pipelines.decide import CellService
from pipelines.operator_socket import ask
from pipelines.simulation import Simulation
from schemas.facts import AnyFact, OperatorRequested

SCRIPT = "demo script"
"""The scripted operator's name in the log."""
POLL_S = 0.005

F = TypeVar("F", bound=AnyFact)


class SceneFailed(Exception):
    """A scene did not come out so."""


class Stage(Protocol):
    """One cell with its agent."""

    facts: list[AnyFact]
    """Everything appended so far, in order."""
    speed: float
    """Plant time per wall time in the agent's measurements."""

    @property
    def state(self) -> CellState:
        """The agent's present state."""

    async def inject(self, fault: str, severity: float = 1.0, tag: str = "") -> int:
        """Break something; returns the agent time at which it was done."""

    async def set_by_hand(self, setpoint: str, value: float) -> None:
        """Change a set-point at the machine."""

    async def lose_server(self, seconds: float) -> None:
        """Take the server away for a while."""

    async def operate(self, kind: str, target: str = "", reason: str = "", **args: float) -> dict[str, Any]:
        """Be the operator; returns what followed."""

    async def wait(self, ready: Callable[[], bool], within_s: float) -> bool:
        """Let plant time pass until `ready`; tells whether it came to that within plant seconds."""


async def until(
    stage: Stage, kind: type[F], what: Callable[[F], bool] = lambda _: True, *, since: int = 0, within_s: float
) -> F:
    """Wait for a fact behind index `since` and return it.

    Raises:
        SceneFailed: it did not come in time.
    """

    def found() -> F | None:
        return next((f for f in stage.facts[since:] if isinstance(f, kind) and what(f)), None)

    await stage.wait(lambda: found() is not None, within_s)
    fact = found()
    if fact is None:
        raise SceneFailed(f"no {kind.__name__} of the kind that was expected within {within_s:g} s of plant time")
    return fact


def requested(
    state: CellState, who: str, at: int, kind: str, target: str, reason: str, args: dict[str, float]
) -> OperatorRequested:
    """Return a request under a name; an approval is bound to what waits now."""
    progress = state.commands.get(target)
    return OperatorRequested(
        at=at,
        request_id=str(uuid.uuid4()),
        who=who,
        kind=kind,  # type: ignore[arg-type]  # checked by the caller's own words
        target=target,
        command_sha256=progress.sha256 if progress is not None and kind == "approve" else "",
        args=args,
        reason=reason,
    )


async def operator_request(
    service: CellService, who: str, at: int, kind: str, target: str, reason: str, args: dict[str, float]
) -> dict[str, Any]:
    """Put a request to a service in this process; return what came of it."""
    return await ask(service, requested(service.state, who, at, kind, target, reason, args))


class SimulatedStage:
    """In one process on a virtual clock."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.facts = simulation.facts
        self.speed = 1.0

    @property
    def state(self) -> CellState:
        """The agent's present state."""
        return self._simulation.service.state

    async def inject(self, fault: str, severity: float = 1.0, tag: str = "") -> int:
        """Break something."""
        self._simulation.plant.station.inject(fault, severity, tag)
        return self._simulation.clock.now_us()

    async def set_by_hand(self, setpoint: str, value: float) -> None:
        """Change a set-point at the machine."""
        self._simulation.plant.station.plc.set_by_hand(setpoint, value)
        self._simulation.plant.show()

    async def lose_server(self, seconds: float) -> None:
        """Take the server away for a while."""
        self._simulation.plant.lose_connection(seconds)

    async def operate(self, kind: str, target: str = "", reason: str = "", **args: float) -> dict[str, Any]:
        """Be the operator."""
        at = self._simulation.clock.now_us()
        return await operator_request(self._simulation.service, SCRIPT, at, kind, target, reason, args)

    async def wait(self, ready: Callable[[], bool], within_s: float) -> bool:
        """Step plant and agent until `ready`."""
        until_us = self._simulation.clock.now_us() + int(within_s * 1e6)
        while not ready() and self._simulation.clock.now_us() < until_us:
            await self._simulation.step()
        return ready()
