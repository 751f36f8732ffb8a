"""Sets the demo up over a broker: the cell in a process of its own, and the agent as `jidoka up` runs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from connectors.clock import SystemClock
from connectors.kafka.admin import partitions_there
from pipelines.demo.remote_stage import RemoteStage
from pipelines.demo.setting import cell_process, configure, end_process
from schemas.settings import KafkaSettings, User

UP_END_S = 40.0
"""Wall time for `jidoka up` to end its processes."""


@asynccontextmanager
async def kafka_setting(folder: Path, kafka: str, *, speed: float, seed: int) -> AsyncIterator[RemoteStage]:
    """Start the cell and `jidoka up` in `folder`; stop them at the end.

    Raises:
        ConnectionFault: no broker, or one of them did not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Topics that are there may be of another demo, or of a test: this one fits itself to them.
    broker = KafkaSettings(bootstrap=(kafka,))
    broker = broker.model_copy(update={"partitions": partitions_there(broker)})
    origin_us = SystemClock().now_us()
    async with cell_process(folder / "plant", speed=speed, seed=seed, origin_us=origin_us, quiet=True) as ready:
        configuration = configure(folder, ready, speed, origin_us, broker=broker)
        assert configuration.settings.kafka is not None, "it was just written"
        simulation = User(name="simulation", password_file=str(folder / "plant" / "users" / "simulation.password"))
        stage = RemoteStage(configuration, simulation, configuration.settings.kafka)
        async with up_process(folder), stage.watching():
            yield stage


@asynccontextmanager
async def up_process(folder: Path, *, workers: int = 1) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `jidoka up` on the configuration of a demo's folder; what it says goes to `up.log`."""
    words = ["up", "--config", str(folder / "config"), "--workers", str(workers)]
    with (folder / "up.log").open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipelines.cli", *words, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        await end_process(process, UP_END_S)
