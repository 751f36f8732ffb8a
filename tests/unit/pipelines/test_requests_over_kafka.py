"""Requests from a topic: durable before the offset is committed, each one fact, and never waited for in vain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from agent.cell import CellState, apply
from pipelines.stages.deciding import Decider
from schemas.errors import CodecError, Fenced
from schemas.facts import OperatorRequested, SourceSilent, encode
from schemas.observations import Observation, decode_observation, encode_observation
from schemas.topics import partition_of

CELL, PARTITIONS = "a/b/c/d/e", 3
NUMBER = partition_of(CELL, PARTITIONS)
WITHIN_S = 20.0


@dataclass
class Service:
    """A cell's service that records what it is handed, until it stops."""

    cell: str = CELL
    stops: bool = False
    state: CellState = field(default_factory=lambda: CellState(CELL))
    failed: BaseException | None = None
    listeners: list[Any] = field(default_factory=list)
    facts: list[Any] = field(default_factory=list)

    async def put(self, message: Any) -> None:
        if self.stops:
            self.failed = Fenced("another process has the cell")
            await asyncio.Event().wait()  # as on a full queue from which nobody takes
        self.facts.append(message)
        self.state = apply(self.state, message) if isinstance(message, OperatorRequested) else self.state
        for listener in list(self.listeners):
            listener([message])


@dataclass
class Letters:
    """Takes dead letters."""

    buried: list[str] = field(default_factory=list)

    async def bury(self, record: Any, reason: str) -> None:
        self.buried.append(reason)


def decider(service: Service) -> tuple[Decider, Letters]:
    """A decider that has one cell, without a broker: only what it does with messages is looked at."""
    made, letters = object.__new__(Decider), Letters()
    made.settings = SimpleNamespace(partitions=PARTITIONS)  # type: ignore[assignment]
    made.services = {service.cell: service}  # type: ignore[dict-item]
    made._paths, made._upstream, made._unknown = frozenset({CELL}), letters, set()  # type: ignore[assignment]
    made.dead_letters = made.passed_over = 0
    return made, letters


def record(value: bytes | None, *, offset: int = 7, key: str = CELL, partition: int = NUMBER) -> Any:
    return SimpleNamespace(topic="t", partition=partition, offset=offset, key=key.encode(), value=value, headers=[])


def request(number: int = 1) -> OperatorRequested:
    return OperatorRequested(at=5, request_id=f"r{number}", who="somebody", kind="off", reason="x")


def requested(service: Service, *records: Any) -> tuple[int, Letters]:
    async def go() -> tuple[int, Letters]:
        made, letters = decider(service)
        async with asyncio.timeout(WITHIN_S):
            return await made.requested(records), letters

    return asyncio.run(go())


def test_a_request_that_comes_again_is_one_fact():
    """Before: two facts with the same request id."""
    service = Service()
    again = record(encode(request()), offset=8)
    assert requested(service, record(encode(request())), again)[0] == 9
    assert service.facts == [request()]


def test_a_request_that_did_not_become_a_fact_is_not_committed():
    """Before: it was, when the cell had stopped meanwhile, and the request was lost."""
    assert requested(Service(stops=True), record(encode(request())))[0] == 7


@pytest.mark.parametrize(
    "bad",
    [
        record(b"\xff\x00"),
        record(None),
        record(b'{"args":' + b"[" * 100_000),
        record(encode(request())[:-3]),
        record(encode(SourceSilent(at=1, source=CELL, silent_s=1.0))),
        record(encode(request()), key="a/b/c/d/x"),
        record(encode(request()), partition=(NUMBER + 1) % PARTITIONS),
    ],
    ids=["bytes", "nothing", "brackets", "cut", "another fact", "unknown cell", "another partition"],
)
def test_what_is_no_request_is_a_dead_letter_and_the_next_is_taken(bad):
    service = Service()
    behind, letters = requested(service, bad, record(encode(request()), offset=8))
    assert (behind, len(letters.buried), service.facts) == (9, 1, [request()])


def test_of_a_cell_that_is_not_ours_only_the_first_observation_is_told():
    async def go() -> tuple[Decider, Letters]:
        made, letters = decider(Service())
        observation = Observation("a/b/c/d/x", 1, 0, 1, 1, "s", True)
        value = encode_observation(observation)
        number = partition_of(observation.cell, PARTITIONS)
        await made.observed([record(value, key=observation.cell, partition=number, offset=n) for n in range(5)])
        return made, letters

    made, letters = asyncio.run(go())
    assert (len(letters.buried), made.passed_over, made.dead_letters) == (1, 5, 1)


@pytest.mark.parametrize("number", [-1, 2**63])
def test_an_observation_out_of_range_is_none(number):
    """Before: the log's database refused the position, and the service ended at it again and again."""
    value = encode_observation(Observation(CELL, number, 0, 1, 1, "s", True))
    with pytest.raises(CodecError, match="out of range"):
        decode_observation(value)
