"""The whole Kafka runtime under load: a collector that counts, workers, decision service (observe) and keeper.

All are processes of the product, started by its own supervisor; only the plant behind the collector is a quick one.
Whoever breaks something does it here; `judging` says what came of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from connectors.clock import SystemClock
from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from pipelines.config import Configuration, load
from pipelines.hosting import Folders, clock_of
from pipelines.stages.detect import GROUP
from pipelines.up import Child, Supervisor
from schemas.errors import CodecError
from schemas.observations import Delivered, decode_observation
from tests.support.kafka_broker import admin_of, plain, settings_of
from tests.support.quick_plant import CONFIG, QUICK

CELLS_N = 4
SPEED = 10.0
SNAPSHOT_S = 10.0
"""Agent time: a second of wall time."""
PATIENCE_S = 60.0
"""Wall time within which everything must go on after a fault: the goal of the whole."""
LOOK_S = 0.05
OUT = "anomalies.v1"
_CELL = 'id = "cell1"\npath = "jidoka/demo/assembly/line1/cell1"'


def configure(folder: Path, cluster: Cluster, *, cells_n: int = CELLS_N, jidoka: str = "") -> Configuration:
    """Write the configuration of several quick cells on this broker."""
    folder.mkdir(parents=True)
    edits = [edit for edit in QUICK if edit[0] in ("plant.toml", "policy.toml", "catalogue.toml")]
    for path in CONFIG.glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        for name, old, new in edits:
            if name == path.name:
                text = text.replace(old, new)
        (folder / path.name).write_text(text, encoding="utf-8")
    plant = (folder / "plant.toml").read_text(encoding="utf-8")
    assert _CELL in plant, "plant.toml no longer begins so"
    (folder / "plant.toml").write_text("\n".join(_cell(plant, n) for n in range(cells_n)), encoding="utf-8")
    kafka = settings_of(cluster, snapshot_s=SNAPSHOT_S)
    (folder / "jidoka.toml").write_text(f"""
mode = "observe"
data = "../data"
{jidoka}
[opcua]
url = "opc.tcp://127.0.0.1:1"
security = "None"

[reasoners]
proposal = "playbook"

[clock]
speed = {SPEED}
origin_us = {SystemClock().now_us()}

[kafka]
bootstrap = {json.dumps(list(kafka.bootstrap))}
partitions = {kafka.partitions}
replication = {kafka.replication}
in_sync_min = {kafka.in_sync_min}
session_s = {kafka.session_s}
snapshot_s = {kafka.snapshot_s}
""")
    return load(folder)


def _cell(plant: str, number: int) -> str:
    """Return the packaged cell as one of several: with a path and tag ids of its own."""
    renamed = plant.replace(_CELL, f'id = "cell{number}"\npath = "jidoka/load/assembly/line1/cell{number}"')
    return re.sub(r"^id = (\d+)$", lambda m: f"id = {int(m[1]) + 100 * number}", renamed, flags=re.MULTILINE)


class Watcher(threading.Thread):
    """Reads `anomalies.v1` all the time, as it comes."""

    def __init__(self, cluster: Cluster, partitions: int) -> None:
        super().__init__(name="watcher", daemon=True)
        self.latest_at: dict[str, int] = {}
        """By cell: agent time of the newest input that an observation is about."""
        self._cluster, self._partitions = cluster, partitions
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        consumer = KafkaConsumer(**plain(self._cluster), enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            consumer.assign([TopicPartition(OUT, n) for n in range(self._partitions)])
            while not self._stopping.is_set():
                for records in consumer.poll(timeout_ms=100).values():
                    for record in records:
                        self._see(record)
        finally:
            consumer.close(autocommit=False)

    def _see(self, record: Any) -> None:
        try:
            observation = decode_observation(record.value or b"")
        except CodecError:
            return
        self.latest_at[observation.cell] = max(self.latest_at.get(observation.cell, 0), observation.at)


class Line:
    """What runs, and how to break it."""

    def __init__(self, folder: Path, cluster: Cluster, configuration: Configuration, seed: int) -> None:
        self.folder, self.cluster, self.configuration = folder, cluster, configuration
        self.clock = clock_of(configuration.settings)
        self.said: list[str] = []
        """What the supervisor and its children said."""
        self.synced: dict[str, int] = {}
        """By cell path: samples that are in the collector's spool for sure."""
        self.lost_n = 0
        self.recovered_s: Counter[str] = Counter()
        """By fault: wall time until all goes on."""
        self.wrong: list[str] = []
        """What a fault itself found wrong."""
        config = str(configuration.folder)
        self._seed, self._feeder, self._listening = seed, None, None
        self._supervisors: dict[str, tuple[Supervisor, AsyncExitStack]] = {}
        self._words = {
            "decide": ["decide", "--config", config],
            "keep": ["keep", "--config", config],
        }
        self.watcher = Watcher(cluster, configuration.settings.kafka.partitions)

    @property
    def bootstrap(self) -> tuple[str, ...]:
        return self.cluster.bootstrap

    # ---- processes

    async def start(self, name: str) -> None:
        """Run a process of the product under a supervisor of its own: `decide`, `keep`, or `detect-1` and so on."""
        words = self._words.get(name, ["detect", "--config", str(self.configuration.folder)])
        supervisor, stack = Supervisor([Child(name, words)], self._say), AsyncExitStack()
        await stack.enter_async_context(supervisor.running())
        self._supervisors[name] = (supervisor, stack)

    async def stop(self, name: str) -> None:
        """End a process in order, and its supervisor."""
        _, stack = self._supervisors.pop(name)
        await stack.aclose()

    @property
    def names(self) -> list[str]:
        return list(self._supervisors)

    def child(self, name: str) -> Child:
        return self._supervisors[name][0].children[0]

    @property
    def starts(self) -> dict[str, int]:
        return {name: supervisor.children[0].starts for name, (supervisor, _) in self._supervisors.items()}

    def signal(self, name: str, what: signal.Signals) -> None:
        """Send a signal to the process of that name."""
        process = self.child(name).process
        assert process is not None
        assert process.returncode is None, f"{name} does not run"
        os.kill(process.pid, what)

    def _say(self, text: str) -> None:
        self.said.append(f"{time.monotonic():.2f} {text}")

    # ---- load

    async def feed(self) -> None:
        """Begin to collect."""
        with (self.folder / "feeder.log").open("ab") as errors:
            self._feeder = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.support.kafka_faults.feeding",
                str(self.configuration.folder), str(self._seed),
                stdout=asyncio.subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self._feeder.stdout is not None
        while line := await self._feeder.stdout.readline():
            said = json.loads(line)
            self.synced, self.lost_n = said["synced"], said["lost"]

    async def end_feeding(self) -> int:
        """End the collector in order; returns its status."""
        if self._feeder is None:
            return 0
        if self._feeder.returncode is None:
            self._feeder.terminate()
        status = await self._feeder.wait()
        await self._listening
        return status

    # ---- looking on

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> float:
        """Wait for something; returns how long it took.

        Raises:
            AssertionError: it did not come.
        """
        began_s = time.monotonic()
        while not holds():
            assert self._feeder is None or self._feeder.returncode is None, "the collector ended"
            waited_s = time.monotonic() - began_s
            assert waited_s < within_s, f"not within {within_s:g} s: {what}\n" + "\n".join(self.said[-40:])
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began_s

    async def flowing(self, since_us: int | None = None, within_s: float = PATIENCE_S) -> float:
        """Wait until input of each cell that is taken from now on has been observed; returns how long it took."""
        from_us = self.clock.now_us() if since_us is None else since_us
        paths = [cell.path for cell in self.configuration.plant.cells]
        seen = self.watcher.latest_at
        return await self.until(
            lambda: all(seen.get(path, 0) >= from_us for path in paths), "observations of every cell", within_s
        )

    async def shared_by(self, workers_n: int) -> float:
        """Wait until so many workers have partitions; returns how long it took."""
        began_s = time.monotonic()
        while (found_n := await asyncio.to_thread(_members_n, self.cluster)) != workers_n:
            waited_s = time.monotonic() - began_s
            assert waited_s < PATIENCE_S, f"{found_n} workers have partitions instead of {workers_n}"
            await asyncio.sleep(LOOK_S * 10)
        return time.monotonic() - began_s

    async def decided(self, within_s: float = PATIENCE_S) -> float:
        """Wait until input that is taken from now on led to a fact in the log; returns how long it took."""
        from_us, log = self.clock.now_us(), Folders(self.configuration.data).log / "log.sqlite"
        return await self.until(lambda: _last_fact_at(log) >= from_us, "facts in the log", within_s)


def _members_n(cluster: Cluster) -> int:
    """Return how many members of the workers' group have partitions."""
    with admin_of(cluster) as admin:
        (group,) = admin.describe_groups([GROUP]).values()
    dealt = [member["member_assignment"] for member in group["members"]]
    # While they are dealt, a member's part is no table but empty text.
    return sum(bool(isinstance(part, dict) and part["assigned_partitions"]) for part in dealt)


def _last_fact_at(log: Path) -> int:
    """Return the agent time of the newest fact that detection gave."""
    import sqlite3

    if not log.exists():
        return 0
    db = sqlite3.connect(f"file:{log}?mode=ro", uri=True, timeout=10.0)
    try:
        rows = db.execute(
            "SELECT data FROM events WHERE type LIKE 'anomaly.%' OR type LIKE 'calibration.%' "
            "ORDER BY position DESC LIMIT 1"
        ).fetchall()
        return int(json.loads(rows[0][0])["at"]) if rows else 0
    except sqlite3.OperationalError:
        return 0  # not made yet
    finally:
        db.close()


@asynccontextmanager
async def running(
    folder: Path, cluster: Cluster, *, seed: int, workers_n: int = 1, decide: bool = True
) -> AsyncIterator[Line]:
    """Start everything on topics that do not exist yet, and yield when it flows; end it at the end.

    Args:
        folder: Of this line; made.
        cluster: Running.
        seed: Of the simulated cells.
        workers_n: Detection workers.
        decide: Also run decision service and keeper.
    """
    configuration = configure(folder / "config", cluster)
    await asyncio.to_thread(apply_topics, configuration.settings.kafka)
    line = Line(folder, cluster, configuration, seed)
    line.watcher.start()
    try:
        for name in [f"detect-{n}" for n in range(1, workers_n + 1)] + (["decide", "keep"] if decide else []):
            await line.start(name)
        await line.feed()
        await line.flowing()
        if decide:
            await line.decided()
        yield line
    finally:
        await line.end_feeding()
        await asyncio.gather(*(line.stop(name) for name in line.names))
        await asyncio.to_thread(line.watcher.stop)
        (folder / "said.log").write_text("\n".join(line.said) + "\n", encoding="utf-8")


__all__ = ["PATIENCE_S", "Delivered", "Line", "configure", "running"]
