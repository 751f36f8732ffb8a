"""A decision service that acts, killed or stopped at a named point while the rest of the runtime goes on.

The plant is a process behind OPC UA, and its own ledger is the witness: what it was told, and what it did. Whoever was
struck is started again by the product's supervisor; the operator speaks through `operator-requests.v1` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer

from agent.cell import CellState, apply
from connectors.clock import SystemClock
from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from pipelines.config import Configuration, load
from pipelines.demo.live_stage import Hands
from pipelines.demo.remote_stage import OPERATORS
from pipelines.demo.setting import cell_process, configure
from pipelines.hosting import Folders, clock_of
from pipelines.log_place import LogPlace
from pipelines.up import Child, Supervisor
from schemas import facts
from schemas.errors import ConnectionFault, LogError
from schemas.facts import OperatorRequested, encode
from schemas.settings import PostgresSettings, User
from schemas.topics import partition_of
from tests.support import killing
from tests.support.kafka_broker import plain, settings_of

SPEED = 10.0
PARTITIONS_N = 3
SESSION_S = 6.0
OVER_S = 150.0
"""Wall time for a whole story with a stroke in it."""
APPROVE_AGAIN_S = 15.0
LOOK_S = 0.1
EDITS: tuple[tuple[str, str, str], ...] = (
    ("plant.toml", "warm_up_rows = 60", "warm_up_rows = 20"),
    # At this speed a session that expires is a minute of plant time: nothing may be late for it.
    ("policy.toml", "quiet_s = 30", "quiet_s = 5\nevidence_max_age_s = 1800\ndecision_max_age_s = 1800"),
    ("policy.toml", "decide_s = 600", "decide_s = 1800"),
    ("catalogue.toml", "for_cycles = 10, within_s = 90", "for_cycles = 3, within_s = 1800"),
    ("catalogue.toml", "for_cycles = 3, within_s = 60", "for_cycles = 3, within_s = 1800"),
)
ELSEWHERE = {("before blobs.put", 6): ("before blobs.put", 5), ("after blobs.put", 6): ("after blobs.put", 5)}
"""Over Kafka a worker keeps what is learnt as normal: the decision service keeps its five files, and no more."""
POINTS: tuple[tuple[str, int], ...] = (
    *(ELSEWHERE.get(point, point) for point in killing.POINTS + killing.MORE if "keeper" not in point[0]),
    ("before upstream.publish(Control", 1),
    ("after upstream.publish(Control", 1),
    ("before upstream.publish(Control", 2),
    ("after upstream.publish(Control", 2),
)
"""Every step of a story: label and which crossing of it."""
ZOMBIE = "before robot.execute(set_grip_force"
"""The intent is durable, the last look at the off switch is done, and the command leaves next."""


@dataclass
class Watched:
    """The log as it grows."""

    state: CellState
    facts: list[Any] = field(default_factory=list)
    grown_s: float = 0.0
    """Wall time of the last fact."""


class Story:
    """Oil on the pads, over Kafka, with somebody who approves."""

    def __init__(self, folder: Path, cluster: Cluster, configuration: Configuration) -> None:
        self.folder, self.cluster, self.configuration = folder, cluster, configuration
        self.cell = configuration.plant.cells[0].path
        self.watched = Watched(CellState(self.cell))
        self.said: list[str] = []
        self.recovered_s = -1.0
        """Wall time from the stroke, or from the end of a pause, until facts are recorded again."""
        self._supervisors: dict[str, Supervisor] = {}
        self._clock = clock_of(configuration.settings)
        self._hands = Hands(
            configuration.settings.opcua,
            User(name="simulation", password_file=str(folder / "plant" / "users" / "simulation.password")),
            self._clock,
        )
        self._producer = KafkaProducer(**plain(cluster), acks="all")

    @property
    def marker(self) -> Path:
        """There is one once somebody was struck."""
        return self.folder / "struck"

    @asynccontextmanager
    async def running(self, children: list[Child]) -> AsyncIterator[Story]:
        """Run these, follow the log, and be the operator."""
        async with AsyncExitStack() as stack:
            tasks = [asyncio.create_task(work) for work in (self._follow(), self._operate(), self._break())]
            stack.push_async_callback(_ended, tasks)
            stack.callback(self._producer.close, 5.0)
            for child in children:
                self._supervisors[child.name] = Supervisor([child], self._say)
                await stack.enter_async_context(self._supervisors[child.name].running())
            try:
                yield self
            finally:
                (self.folder / "said.log").write_text("\n".join(self.said) + "\n", encoding="utf-8")

    def _say(self, text: str) -> None:
        self.said.append(f"{time.monotonic():.2f} {text}")

    def processes(self) -> dict[str, int]:
        """Process ids by name, of those that run."""
        found = {name: each.children[0].process for name, each in self._supervisors.items()}
        return {name: p.pid for name, p in found.items() if p is not None and p.returncode is None}

    def starts(self, name: str) -> int:
        """How often a process was started."""
        return self._supervisors[name].children[0].starts

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = OVER_S) -> float:
        """Wait for something; returns how long it took.

        Raises:
            TimeoutError: it did not come.
        """
        began_s = time.monotonic()
        while not holds():
            if time.monotonic() - began_s > within_s:
                raise TimeoutError(f"not within {within_s:g} s: {what}; commands {self.watched.state.commands}")
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began_s

    @property
    def over(self) -> bool:
        """Whether the slip was dealt with, and nothing is owed any more."""
        state = self.watched.state
        slipped = any(isinstance(f, facts.IncidentOpened) and f.kind == "process" for f in self.watched.facts)
        owed = state.commands or state.notifications or state.plans
        return slipped and not owed and all(each.escalation for each in state.incidents.values())

    async def _follow(self) -> None:
        place, position = LogPlace(Folders(self.configuration.data), self.configuration.settings.postgres), 0
        while True:
            with contextlib.suppress(LogError, ConnectionFault):
                log = await asyncio.to_thread(place.open)
                try:
                    async for record in log.read_all(after=position, follow=True):
                        position = record.position
                        self.watched.state = apply(self.watched.state, record.fact)
                        self.watched.facts.append(record.fact)
                        self.watched.grown_s = time.monotonic()
                finally:
                    await log.close()
            await asyncio.sleep(LOOK_S)

    async def _operate(self) -> None:
        """Approve whatever waits, once; again when nothing comes of it for long."""
        asked_s: dict[str, float] = {}
        while True:
            for command_id, progress in list(self.watched.state.commands.items()):
                waited_s = time.monotonic() - asked_s.get(command_id, -APPROVE_AGAIN_S)
                if progress.phase == "awaiting_approval" and waited_s > APPROVE_AGAIN_S:
                    asked_s[command_id] = time.monotonic()
                    await asyncio.to_thread(self._approve, command_id, progress.sha256)
            await asyncio.sleep(LOOK_S)

    def _approve(self, command_id: str, sha256: str) -> None:
        request = OperatorRequested(
            at=self._clock.now_us(), request_id=f"approve-{command_id}", who="operator", kind="approve",
            target=command_id, command_sha256=sha256,
        )  # fmt: skip
        number = partition_of(self.cell, PARTITIONS_N)
        self._producer.send(OPERATORS, encode(request), self.cell.encode(), partition=number).get(timeout=30)

    async def _break(self) -> None:
        """Oil the pads when the normal is learnt."""
        while not any(isinstance(f, facts.CalibrationAdopted) for f in self.watched.facts):
            await asyncio.sleep(LOOK_S)
        await self._hands.inject("oil_on_pads")


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


@asynccontextmanager
async def prepared(
    folder: Path, cluster: Cluster, *, seed: int, keys: Path | None = None, postgres: PostgresSettings | None = None
) -> AsyncIterator[Story]:
    """Run the plant and everything but the decision service; yields the story, in which nobody decides yet.

    Args:
        folder: Of this trial; made.
        cluster: Running; the cell has a path of its own on its topics.
        seed: Of the plant.
        keys: A folder of an earlier trial, whose keys and users are taken; making them takes seconds.
        postgres: Where the log is; None: SQLite.
    """
    folder.mkdir(parents=True)
    for name in ("plant/pki", "plant/users", "agent/pki") if keys is not None else ():
        shutil.copytree(keys / name, folder / name)
    origin_us = SystemClock().now_us()
    async with cell_process(folder / "plant", speed=SPEED, seed=seed, origin_us=origin_us, quiet=True) as ready:
        configure(folder, ready, SPEED, origin_us, broker=settings_of(cluster, partitions=PARTITIONS_N))
        for name, old, new in EDITS:
            path = folder / "config" / name
            text = path.read_text(encoding="utf-8")
            assert old in text, f"{name} no longer says {old!r}"
            path.write_text(text.replace(old, new), encoding="utf-8")
        with (folder / "config" / "jidoka.toml").open("a", encoding="utf-8") as file:
            file.write(f"session_s = {SESSION_S}\n{_database(postgres)}")
        configuration = load(folder / "config")
        await asyncio.to_thread(apply_topics, configuration.settings.kafka)
        yield Story(folder, cluster, configuration)


def _database(postgres: PostgresSettings | None) -> str:
    if postgres is None:
        return ""
    user = postgres.user
    assert user is not None
    return f"""
[postgres]
host = "{postgres.host}"
port = {postgres.port}
database = "{postgres.database}"
user = {{ name = "{user.name}", password_file = "{user.password_file}" }}
tls = "{postgres.tls}"
timeout_s = {postgres.timeout_s}
"""


def _others(config: Path) -> list[Child]:
    return [Child(name, [name, "--config", str(config)]) for name in ("collect", "detect", "keep")]


def _struck(name: str, config: Path, at: str, count: int, what: str, marker: Path) -> Child:
    words = [str(config), "--at", at, "--count", str(count), "--signal", what, "--marker", str(marker)]
    return Child(name, words, module="tests.support.kafka_faults.killed_decide")


async def decide_killed(
    folder: Path, cluster: Cluster, *, seed: int, at: str, count: int, keys: Path | None = None
) -> tuple[list[str], float]:
    """kill -9 of the decision service at a point of a story; returns violations, and how long recovery took."""
    async with prepared(folder, cluster, seed=seed, keys=keys) as story:
        config = folder / "config"
        children = [*_others(config), _struck("decide", config, at, count, "KILL", story.marker)]
        try:
            async with story.running(children):
                await story.until(story.marker.exists, f"the point {at} {count}")
                # At the first points of all it has not said yet that it is there.
                await story.until(lambda: not _alive(story, "decide"), "its death")
                await asyncio.sleep(LOOK_S * 3)
                starts_n = _starts(story)
                story.recovered_s = await story.until(lambda: _starts(story) > starts_n, "its next life")
                await story.until(lambda: story.over, "the end of the story")
        except TimeoutError as error:
            return [f"{at} {count}: {error}"], story.recovered_s
    return await asyncio.to_thread(killing.violations, folder), story.recovered_s


def _alive(story: Story, name: str) -> bool:
    return name in story.processes() and story.starts(name) == 1


def _starts(story: Story) -> int:
    return sum(isinstance(f, facts.AgentStarted) for f in story.watched.facts)


async def zombie(
    folder: Path, cluster: Cluster, postgres: PostgresSettings, *, seed: int, pause_s: float, keys: Path | None = None
) -> tuple[list[str], float, str]:
    """Two decision services; the one with an intent in hand is stopped past its session, replaced, and goes on.

    Returns:
        Violations, how long the other one took to take over, and what came of the zombie's send.
    """
    async with prepared(folder, cluster, seed=seed, keys=keys, postgres=postgres) as story:
        other = _second_node(folder)
        children = [
            *_others(folder / "config"),
            _struck("decide-1", folder / "config", ZOMBIE, 1, "STOP", story.marker),
            _struck("decide-2", other, ZOMBIE, 1, "STOP", story.marker),
        ]
        try:
            async with story.running(children):
                await story.until(story.marker.exists, "an intent in hand")
                stopped = await _stopped(story)
                starts_n = _starts(story)
                story.recovered_s = await story.until(
                    lambda: _starts(story) > starts_n, "another process takes the cell"
                )
                await asyncio.sleep(max(0.0, pause_s - story.recovered_s))
                os.kill(stopped, signal.SIGCONT)
                note = story.marker.with_suffix(".json")
                await story.until(note.exists, "the zombie's send")
                await story.until(lambda: story.over, "the end of the story")
        except TimeoutError as error:
            return [str(error)], story.recovered_s, ""
        finally:
            for pid in story.processes().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
    noted = msgspec.json.decode(note.read_bytes())
    return await asyncio.to_thread(killing.violations, folder, postgres), story.recovered_s, str(noted["outcome"])


def _second_node(folder: Path) -> Path:
    """Make the configuration of a second node: the same, with a data folder of its own."""
    other = folder / "config-2"
    shutil.copytree(folder / "config", other)
    text = (other / "jidoka.toml").read_text(encoding="utf-8")
    assert 'data = "../agent"' in text
    (other / "jidoka.toml").write_text(text.replace('data = "../agent"', 'data = "../agent-2"'), encoding="utf-8")
    shutil.copytree(folder / "agent" / "pki", folder / "agent-2" / "pki")
    return other


async def _stopped(story: Story) -> int:
    """Return the process that stands still."""
    for _ in range(100):
        for name, pid in story.processes().items():
            if name.startswith("decide") and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return pid
        await asyncio.sleep(LOOK_S)
    raise TimeoutError("no decision service stands still")
