"""`decisions.v1` beside the log: every fact once, in order, with what a reader needs to check it by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from connectors.clock import SystemClock
from connectors.eventlog.chain import genesis, link
from connectors.eventlog.sqlite import SqliteStore
from connectors.kafka.admin import apply_topics
from connectors.kafka.connection import client_arguments
from connectors.kafka.reading import read_range
from pipelines.stages import mirror
from pipelines.stages.mirror import TOPIC, Mirror
from schemas.facts import OperatorRequested
from schemas.settings import KafkaSettings
from schemas.topics import partition_of
from tests.support.kafka_broker import emptied, settings_of

CELLS = tuple(f"site/a/b/c/cell{n}" for n in range(4))
WITHIN_S = 20.0


@pytest.fixture
def settings(kafka_broker) -> KafkaSettings:
    settings = settings_of(emptied(kafka_broker))
    apply_topics(settings)
    return settings


async def fill(store: SqliteStore, count: int, *, first: int = 0) -> None:
    """Append facts to the cells in turn."""
    for number in range(first, first + count):
        cell = CELLS[number % len(CELLS)]
        taken = await store.take(cell)
        fact = OperatorRequested(at=number, request_id=f"n{number}", who="test", kind="note", reason="a note")
        await store.append(cell, [fact], expected=taken.version, advance={}, epoch=taken.epoch)


async def copy(store: SqliteStore, settings: KafkaSettings, until: int, *, ours=lambda: True) -> None:
    """Run a mirror until it has copied up to a position."""
    copier = Mirror(store, client_arguments(settings), settings.partitions, store.log_id, ours=ours)
    task = asyncio.create_task(copier.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            while copier.position < until:
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def copied(settings: KafkaSettings) -> list[tuple[int, dict[str, bytes], bytes, bytes]]:
    """Everything on the topic: partition, headers, key, value."""
    return [
        (number, dict(record.headers), record.key, record.value)
        for number in range(settings.partitions)
        for record in read_range(client_arguments(settings), TOPIC, number, 0)
    ]


def test_every_fact_is_on_the_topic_once_and_the_chain_can_be_computed_from_it(settings, tmp_path: Path):
    async def go() -> str:
        async with SqliteStore.open(tmp_path / "log", clock=SystemClock()) as store:
            await fill(store, 40)
            await copy(store, settings, 40)
            await fill(store, 20, first=40)
            await copy(store, settings, 60)
            return store.log_id

    log_id = asyncio.run(go())
    found = copied(settings)
    by_position = {int(headers["position"]): (headers, key, value) for _, headers, key, value in found}
    assert sorted(by_position) == list(range(1, 61))
    assert len(found) == 60
    for partition, _, key, _ in found:
        assert partition == partition_of(key.decode(), settings.partitions)
    chain = genesis(log_id)
    for position in range(1, 61):
        headers, key, value = by_position[position]
        chain = link(
            chain,
            position=position,
            cell=key,
            version=int(headers["version"]),
            type_=headers["ce_type"].removeprefix(b"jidoka."),
            recorded_at=int(headers["recorded_at"]),
            inputs=headers["inputs"],
            data=value,
        )
        assert headers["chain"].decode() == chain.hex()
        assert json.loads(value)["type"] == "operator.requested/1"


def test_a_mirror_that_died_between_two_acknowledgements_neither_repeats_nor_forgets(settings, tmp_path, monkeypatch):
    """Of each partition another share of the batch reached the broker: the next mirror finds out which."""
    send = Mirror._send

    def in_part(self, producer, records):
        of = {n: [r for r in records if partition_of(r.cell, settings.partitions) == n] for n in range(3)}
        send(self, producer, [r for n, mine in of.items() for r in mine[: len(mine) * n // 2]])
        raise ConnectionError("the process is gone")

    async def go() -> None:
        async with SqliteStore.open(tmp_path / "log", clock=SystemClock()) as store:
            await fill(store, 30)
            monkeypatch.setattr(mirror, "AGAIN_S", 60.0)
            monkeypatch.setattr(Mirror, "_send", in_part)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4.0):
                    await copy(store, settings, 30)
            monkeypatch.setattr(Mirror, "_send", send)
            monkeypatch.setattr(mirror, "AGAIN_S", 0.5)
            await copy(store, settings, 30)

    asyncio.run(go())
    positions = sorted(int(headers["position"]) for _, headers, _, _ in copied(settings))
    assert positions == list(range(1, 31))


def test_who_has_not_partition_zero_copies_nothing(settings, tmp_path):
    async def go() -> None:
        async with SqliteStore.open(tmp_path / "log", clock=SystemClock()) as store:
            await fill(store, 4)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3.0):
                    await copy(store, settings, 4, ours=lambda: False)

    asyncio.run(go())
    assert copied(settings) == []
