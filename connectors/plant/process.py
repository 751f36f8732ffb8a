"""The simulated cell as a process of its own: `python -m connectors.plant.process --data DIR`.

It prints one JSON line when it is ready and runs until it is told to end (SIGTERM, SIGINT). Everything that must
outlive it lies in the data folder: `plc.sqlite` (ledger and retained set-points), `pki/`, `users/`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from connectors.clock import ScaledClock, SystemClock
from connectors.plant.configuration import demo_cell
from connectors.plant.plc import AGENT_SILENT_S
from connectors.plant.server import CellServer
from connectors.plant.station import Station
from schemas.errors import JidokaError
from schemas.plant import Cell


@dataclass(frozen=True, slots=True)
class CellSettings:
    """How to run a cell."""

    data: Path
    """Folder that is made if it is missing."""
    port: int = 0
    """0 takes a free one."""
    speed: float = 1.0
    """Plant time per wall time, up to 20."""
    seed: int = 1
    insecure: bool = False
    """Also offer security None, and let anyone read."""
    origin_us: int | None = None
    """Wall time at which plant time equals it, microseconds since 1970 UTC; None: now."""
    agent_silent_s: float = AGENT_SILENT_S


@dataclass(frozen=True, slots=True)
class Ready:
    """What a partner needs to know of a running cell."""

    url: str
    folder: str
    pid: int
    speed: float
    origin_us: int
    security: str
    application_uri: str
    certificate: str
    """The server's certificate; a client trusts it by copying it into its own `trusted/`."""


def print_ready(ready: Ready) -> None:
    """Print the one line."""
    print(json.dumps(asdict(ready)), flush=True)


async def serve_cell(
    settings: CellSettings, *, config: Cell | None = None, ready: Callable[[Ready], None] = print_ready
) -> None:
    """Run a cell until cancelled.

    Args:
        settings: How.
        config: The cell whose tags are offered; None: the demo's.
        ready: Called once, when partners may connect.

    Raises:
        ConfigError: something in the data folder cannot be used.
        OSError: the port is taken.
        ValueError: a setting is outside its range.
    """
    config = config or demo_cell()
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    origin_us = SystemClock().now_us() if settings.origin_us is None else settings.origin_us
    clock = ScaledClock(origin_us, settings.speed)
    station = Station(
        config,
        settings.seed,
        ledger=settings.data / "plc.sqlite",
        now_us=clock.now_us,
        wall_us=lambda: time.monotonic_ns() // 1000,
        agent_silent_s=settings.agent_silent_s,
    )
    try:
        server = CellServer(config, station, clock, data=settings.data, port=settings.port, insecure=settings.insecure)
        await server.start()
        try:
            ready(
                Ready(
                    url=server.url,
                    folder=str(settings.data),
                    pid=os.getpid(),
                    speed=settings.speed,
                    origin_us=origin_us,
                    security="None" if settings.insecure else "SignAndEncrypt",
                    application_uri=server.application_uri,
                    certificate=str(settings.data / "pki" / "own" / "certificate.der"),
                )
            )
            await server.serve()
        finally:
            await server.stop()
    finally:
        station.close()


async def _until_told(settings: CellSettings) -> None:
    task = asyncio.current_task()
    assert task is not None
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serve_cell(settings)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m connectors.plant.process", description="The simulated cell.")
    parser.add_argument("--data", type=Path, required=True, help="data folder, made if missing")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--speed", type=float, default=1.0, help="plant time per wall time, up to 20")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--insecure", action="store_true", help="also offer security None, and let anyone read")
    parser.add_argument("--origin-us", type=int, default=None, help="when plant and wall time are equal; default now")
    settings = CellSettings(**vars(parser.parse_args(arguments)))
    # asyncua logs every refused request as an error; refusing is what this server is for.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    try:
        asyncio.run(_until_told(settings))
    except (JidokaError, OSError, ValueError) as error:
        print(f"cell: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
