"""All processes with users of their own, over TLS: each with the rights of deploy/kafka/acls.toml and no others."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.clock import SystemClock
from connectors.kafka.admin import apply_topics, grant
from pipelines.commands.topics import read_access
from pipelines.config import load
from pipelines.demo.remote_stage import RemoteStage
from pipelines.demo.scenes import oil
from pipelines.demo.setting import cell_process, configure
from pipelines.proof import prove
from schemas.access import rights
from schemas.settings import KafkaSettings, PostgresSettings, User
from tests.support.kafka_secured import secured_cluster

TABLE = Path(__file__).parents[2] / "deploy/kafka/acls.toml"
SPEED = 10.0
PROCESSES = ("collect", "detect", "decide", "keep")


def written(folder: Path, user: str, kafka: KafkaSettings, postgres: PostgresSettings) -> Path:
    """A configuration folder for one process, with its own user at the broker."""
    config = folder / f"config-{user}"
    config.mkdir()
    for path in (folder / "config").iterdir():
        (config / path.name).write_bytes(path.read_bytes())
    assert kafka.user is not None
    assert postgres.user is not None
    with (config / "jidoka.toml").open("a") as settings:
        settings.write(f"""
[kafka]
bootstrap = ["{kafka.bootstrap[0]}"]
security = "{kafka.security}"
ca = "{kafka.ca}"
user = {{ name = "{kafka.user.name}", password_file = "{kafka.user.password_file}" }}
partitions = {kafka.partitions}

[postgres]
host = "{postgres.host}"
port = {postgres.port}
database = "{postgres.database}"
tls = "verify-full"
ca = "{postgres.ca}"
user = {{ name = "{postgres.user.name}", password_file = "{postgres.user.password_file}" }}
""")
    return config


@asynccontextmanager
async def process(name: str, config: Path, log: Path) -> AsyncIterator[None]:
    with log.open("ab") as said:
        running = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", name, "--config", str(config)], stdout=said, stderr=said
        )
    try:
        yield
        assert running.poll() is None, log.read_text()[-3000:]
    finally:
        running.terminate()
        try:
            await asyncio.to_thread(running.wait, 20.0)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


async def play(folder: Path, cluster, postgres: PostgresSettings) -> None:
    origin_us = SystemClock().now_us()
    async with cell_process(folder / "plant", speed=SPEED, seed=1, origin_us=origin_us, quiet=True) as ready:
        configure(folder, ready, SPEED, origin_us)
        configs = {name: written(folder, name, cluster.settings(name), postgres) for name in (*PROCESSES, "tools")}
        tools = load(configs["tools"])
        assert tools.settings.kafka is not None
        simulation = User(name="simulation", password_file=str(folder / "plant" / "users" / "simulation.password"))
        async with contextlib.AsyncExitStack() as stack:
            for name in PROCESSES:
                await stack.enter_async_context(process(name, configs[name], folder / f"{name}.log"))
            stage = RemoteStage(tools, simulation, tools.settings.kafka)
            await stack.enter_async_context(stage.watching())
            await oil(stage)


@pytest.mark.timeout(240)
def test_the_whole_way_with_passwords_tls_and_the_least_rights(postgres_server, tmp_path):
    with secured_cluster(tmp_path / "kafka") as cluster:
        apply_topics(cluster.settings())
        grant(cluster.settings(), rights(read_access(TABLE)))
        with postgres_server.database(tls="verify-full", ca=str(postgres_server.ca)) as postgres:
            folder = tmp_path / "demo"
            folder.mkdir()
            asyncio.run(play(folder, cluster, postgres))
            proof = prove(folder / "agent", postgres)
    assert proof.good, proof.text
    said = "".join((folder / f"{name}.log").read_text() for name in PROCESSES)
    assert "uthoriz" not in said, said
