"""The stages on which the plant is a process of its own, behind its OPC UA server.

Faults go through its simulation object, under a user that the agent cannot be. `LiveStage` has the agent in this
process; `RemoteStage` looks at one that runs elsewhere, through its log and its topics alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from asyncua import ua
from kafka import KafkaProducer

from agent.cell import CellState, apply
from agent.ports import Clock
from connectors.kafka.connection import client_arguments
from connectors.opcua.session import open_session
from pipelines.config import Configuration
from pipelines.demo.stage import POLL_S, SCRIPT, SceneFailed, operator_request
from pipelines.hosting import Folders, clock_of
from pipelines.log_place import LogPlace, LogReader
from pipelines.operator_socket import ANSWER_S, consequence
from pipelines.runner import Runtime
from schemas.errors import LogError
from schemas.facts import AnyFact, OperatorRequested, encode
from schemas.settings import KafkaSettings, OpcUaSettings, User
from schemas.topics import partition_of

OPERATORS = "operator-requests.v1"
LOG_S = 60.0
"""Wall time for the agent's log to appear."""
SETTLE_S = 0.1
"""Wall time for the rest of an append to be read."""


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


class RemoteStage(Hands):
    """With the agent in processes of its own: seen through its log, spoken to through `operator-requests.v1`."""

    def __init__(self, configuration: Configuration, simulation: User, kafka: KafkaSettings) -> None:
        """Take the stage; `watching` must run beside it.

        Args:
            configuration: The agent's; its first cell is on stage.
            simulation: The user that may break things; the agent has no such right.
            kafka: The agent's broker.
        """
        super().__init__(configuration.settings.opcua, simulation, clock_of(configuration.settings))
        self._cell, self._kafka = configuration.plant.cells[0].path, kafka
        self._log = LogPlace(Folders(configuration.data), configuration.settings.postgres)
        self.speed = configuration.settings.clock.speed
        self.facts: list[AnyFact] = []
        self.state = CellState(self._cell)
        self._producer = KafkaProducer(**client_arguments(kafka), acks="all")

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[RemoteStage]:
        """Follow the log while the block runs."""
        task = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.to_thread(self._producer.close, 5.0)

    async def _follow(self) -> None:
        store = await _opened(self._log)
        try:
            async for record in store.read_all(follow=True):
                self.state = apply(self.state, record.fact)
                self.facts.append(record.fact)
        finally:
            await store.close()

    async def operate(self, kind: str, target: str = "", reason: str = "", **args: float) -> dict[str, Any]:
        """Be the operator."""
        progress = self.state.commands.get(target)
        request = OperatorRequested(
            at=self._clock.now_us(),
            request_id=str(uuid.uuid4()),
            who=SCRIPT,
            kind=kind,  # type: ignore[arg-type]  # checked by the caller's own words
            target=target,
            command_sha256=progress.sha256 if progress is not None and kind == "approve" else "",
            args=args,
            reason=reason,
        )
        since = len(self.facts)
        await asyncio.to_thread(self._send, request)
        return await self._answer(request, since)

    def _send(self, request: OperatorRequested) -> None:
        partition = partition_of(self._cell, self._kafka.partitions)
        sent = self._producer.send(OPERATORS, key=self._cell.encode(), value=encode(request), partition=partition)
        sent.get(timeout=ANSWER_S)

    async def _answer(self, request: OperatorRequested, since: int) -> dict[str, Any]:
        until_s = asyncio.get_running_loop().time() + ANSWER_S
        while asyncio.get_running_loop().time() < until_s:
            if any(f == request or getattr(f, "request_id", "") == request.request_id for f in self.facts[since:]):
                await asyncio.sleep(SETTLE_S)
                answer = consequence(request, self.facts[since:])
                if answer is not None:
                    return answer
            await asyncio.sleep(POLL_S)
        raise SceneFailed(f"nothing followed from {request.kind!r} within {ANSWER_S:g} s")

    async def wait(self, ready: Callable[[], bool], within_s: float) -> bool:
        """Let time pass until `ready`."""
        until_us = self._clock.now_us() + int(within_s * 1e6)
        while not ready() and self._clock.now_us() < until_us:
            await asyncio.sleep(POLL_S)
        return ready()


async def _opened(place: LogPlace) -> LogReader:
    """Wait for the agent's log."""
    until_s = asyncio.get_running_loop().time() + LOG_S
    while True:
        try:
            return await asyncio.to_thread(place.open)
        except LogError:
            if asyncio.get_running_loop().time() > until_s:
                raise
        await asyncio.sleep(POLL_S * 20)
