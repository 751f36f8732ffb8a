"""Sets the demo up: a folder, a cell in a process of its own, mutual trust, and the agent's configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from connectors.clock import SystemClock
from connectors.opcua import pki, session
from pipelines.act import act_parts
from pipelines.config import Configuration, load
from pipelines.runner import Runtime, running
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings, OpcUaSettings, User

PACKAGED = ("plant.toml", "catalogue.toml", "policy.toml", "playbook.toml")
START_S = 60.0
"""Wall time for the cell's process to come up; its first start makes keys."""
END_S = 10.0
SNAPSHOT_S = 2.0
"""Wall time between two snapshots of the detectors."""
PACKAGED_PATH = "jidoka/demo/assembly/line1/cell1"


@dataclass(frozen=True, slots=True)
class Setting:
    """A running demo."""

    folder: Path
    url: str
    runtime: Runtime
    plant: OpcUaSettings
    simulation: User
    """May break the plant; the agent cannot be this user."""
    speed: float


@asynccontextmanager
async def setting(folder: Path, *, speed: float, seed: int, quiet: bool = False) -> AsyncIterator[Setting]:
    """Start everything in `folder`; stop it at the end. `quiet`: what the cell's process says goes to `plant.log`.

    Raises:
        ConnectionFault: the cell's process did not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    origin_us = SystemClock().now_us()
    async with cell_process(folder / "plant", speed=speed, seed=seed, origin_us=origin_us, quiet=quiet) as ready:
        configuration = configure(folder, ready, speed, origin_us)
        async with running(configuration, act_parts(configuration)) as runtime:
            simulation = User(name="simulation", password_file=str(folder / "plant" / "users" / "simulation.password"))
            yield Setting(folder, str(ready["url"]), runtime, configuration.settings.opcua, simulation, speed)


@asynccontextmanager
async def cell_process(
    data: Path, *, speed: float, seed: int, origin_us: int, port: int = 0, quiet: bool = False
) -> AsyncIterator[dict[str, object]]:
    """Run `jidoka cell` as its own process; yields its ready line.

    Raises:
        ConnectionFault: it ended or said nothing in time.
    """
    arguments = ["--data", data, "--speed", speed, "--seed", seed, "--origin-us", origin_us, "--port", port]
    with contextlib.ExitStack() as files:
        said = files.enter_context(data.with_suffix(".log").open("ab")) if quiet else None
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "connectors.plant.process",
            *map(str, arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=said,
        )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
        if not line:
            raise ConnectionFault(f"the simulated cell ended with status {await process.wait()}: see its words above")
        ready: dict[str, object] = json.loads(line)
        yield ready
    except TimeoutError as error:
        raise ConnectionFault(f"the simulated cell did not come up within {START_S:g} s") from error
    finally:
        await end_process(process, END_S)


async def end_process(process: asyncio.subprocess.Process, within_s: float) -> None:
    """End a process in order; after `within_s` of wall time at once."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), within_s)
    except TimeoutError:
        process.kill()
        await process.wait()


def configure(
    folder: Path, ready: dict[str, object], speed: float, origin_us: int, *, broker: KafkaSettings | None = None
) -> Configuration:
    """Write the agent's configuration folder and let agent and cell trust each other.

    Args:
        folder: Of the demo.
        ready: What the cell's process said when it was.
        speed: Plant time per wall time.
        origin_us: When both are equal.
        broker: Where the cell's messages go; it then has a path of its own, since topics outlive a demo.
    """
    config = folder / "config"
    config.mkdir(exist_ok=True)
    packaged = resources.files("connectors.plant").joinpath("config")
    for name in PACKAGED:
        (config / name).write_bytes(packaged.joinpath(name).read_bytes())
    settings = _settings(folder, str(ready["url"]), speed, origin_us)
    if broker is not None:
        settings += f"""
[kafka]
bootstrap = {json.dumps(broker.bootstrap)}
partitions = {broker.partitions}
snapshot_s = {SNAPSHOT_S * speed}
"""
        _rename_cell(config / "plant.toml", f"at-{origin_us}")
    (config / "jidoka.toml").write_text(settings)
    own = pki.ensure_certificate(
        folder / "agent" / "pki", application_uri=session.APPLICATION_URI, common_name=session.COMMON_NAME
    )
    pki.trust(folder / "plant" / "pki", own.certificate)
    pki.trust(folder / "agent" / "pki", Path(str(ready["certificate"])))
    return load(config)


def _rename_cell(plant: Path, site: str) -> None:
    text = plant.read_text(encoding="utf-8")
    assert PACKAGED_PATH in text, f"{plant.name} no longer has {PACKAGED_PATH}"
    plant.write_text(text.replace(PACKAGED_PATH, PACKAGED_PATH.replace("/demo/", f"/{site}/")), encoding="utf-8")


def _settings(folder: Path, url: str, speed: float, origin_us: int) -> str:
    users = folder.resolve() / "plant" / "users"
    return f"""# Written by jidoka demo.
mode = "act"
data = "../agent"

[opcua]
url = "{url}"
collector = {{ name = "collector", password_file = "{users / "collector.password"}" }}
actuator = {{ name = "actuator", password_file = "{users / "actuator.password"}" }}

# The embedded model takes its seconds to load, and the first scene does not wait. Without these lines it is asked first
# where it is installed.
[reasoners]
proposal = "playbook"

[clock]
speed = {speed}
origin_us = {origin_us}
"""


def fresh_folder(wanted: Path | None) -> Path:
    """Return an empty data folder: the wanted one, or the next free one under `./var`.

    Raises:
        ConnectionFault: the wanted one holds something.
    """
    if wanted is not None:
        if wanted.exists() and any(wanted.iterdir()):
            raise ConnectionFault(f"{wanted} is not empty: name a new folder, the demo begins from nothing")
        return wanted
    number = 1
    while (folder := Path("var") / f"demo-{number}").exists():
        number += 1
    return folder


def remove(folder: Path) -> None:
    """Delete a folder that this demo made."""
    shutil.rmtree(folder, ignore_errors=True)
