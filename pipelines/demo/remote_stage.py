"""The stage on which the agent, too, runs elsewhere: seen through its log, spoken to through its topics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from kafka import KafkaProducer

from agent.cell import CellState, apply
from connectors.kafka.connection import client_arguments
from pipelines.config import Configuration
from pipelines.demo.live_stage import Hands
from pipelines.demo.stage import POLL_S, SCRIPT, SceneFailed, requested
from pipelines.hosting import Folders, clock_of
from pipelines.log_place import LogPlace, LogReader
from pipelines.operator_socket import ANSWER_S, consequence
from schemas.errors import LogError
from schemas.facts import AnyFact, OperatorRequested, encode
from schemas.settings import KafkaSettings, User
from schemas.topics import partition_of

OPERATORS = "operator-requests.v1"
LOG_S = 60.0
"""Wall time for the agent's log to appear."""
SETTLE_S = 0.1
"""Wall time for the rest of an append to be read."""


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
        request = requested(self.state, SCRIPT, self._clock.now_us(), kind, target, reason, args)
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
