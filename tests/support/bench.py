"""A simulated cell and the agent that watches it, each in a process of its own, and the command line beside them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from asyncua import ua

from connectors.eventlog.reader import open_readonly
from connectors.opcua.session import open_session
from pipelines.cli import main
from pipelines.config import Configuration, load
from pipelines.demo.setting import configure
from schemas.records import Recorded
from schemas.settings import User

SPEED = 20.0
WARM_UP_ROWS = 15
"""A short lesson, so that a test need not wait for the demo's."""
START_WITHIN_S = 60.0
END_WITHIN_S = 30.0
SOON_S = 40.0
POLL_S = 0.05


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def one_line_error(self) -> str:
        """The error, if it is one line without a traceback."""
        lines = [line for line in self.err.splitlines() if line]
        assert len(lines) == 1, self
        assert lines[0].startswith("jidoka: "), self
        return lines[0]


def jidoka(*words: object) -> Said:
    """Call the command line in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["jidoka", *map(str, words)]),
        patch.dict(os.environ, {"COLUMNS": "200"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return Said(status, out.getvalue(), err.getvalue())


def jidoka_process(*words: object, within_s: float = 120.0, **options: Any) -> Said:
    """Call the command line as a process of its own."""
    command = [sys.executable, "-m", "pipelines.cli", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, env=environment, **options)
    return Said(done.returncode, done.stdout, done.stderr)


class Process:
    """A child process whose words are kept."""

    def __init__(self, *words: object, **options: Any) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)],
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def first_line(self) -> str:
        """Its first line on stdout; empty if it ended before."""
        assert self._popen.stdout is not None
        return self._popen.stdout.readline()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait(self, within_s: float = END_WITHIN_S) -> Said:
        """Wait for its end."""
        out, err = self._popen.communicate(timeout=within_s)
        return Said(self._popen.returncode, out, err)

    def end(self, how: signal.Signals = signal.SIGTERM) -> Said:
        """Tell it to end, and wait for it."""
        if self._popen.poll() is None:
            self._popen.send_signal(how)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self.wait()
            raise


class Bench:
    """A folder with a running cell in it, the agent's configuration, and its process when it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.data = folder / "config", folder / "agent"
        origin_us = int(time.time() * 1e6)
        self._cell = Process(
            "connectors.plant.process", "--data", folder / "plant", "--speed", SPEED, "--origin-us", origin_us
        )
        self.ready = json.loads(self._cell.first_line())
        configure(folder, self.ready, SPEED, origin_us)
        self.edit("plant.toml", "warm_up_rows = 60", f"warm_up_rows = {WARM_UP_ROWS}")
        self.agent: Process | None = None

    def close(self) -> None:
        """End what runs."""
        if self.agent is not None:
            self.agent.end(signal.SIGKILL)
        self._cell.end(signal.SIGKILL)

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a configuration file."""
        path = self.config / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new))

    def load(self) -> Configuration:
        return load(self.config)

    def start(self, **options: Any) -> Process:
        """Start the agent and wait until it runs."""
        self.agent = Process("pipelines.cli", "run", "--config", self.config, **options)
        line = self.agent.first_line()
        if not line.startswith("running "):
            raise AssertionError(self.stop())
        return self.agent

    def stop(self, how: signal.Signals = signal.SIGTERM) -> Said:
        """End the agent."""
        assert self.agent is not None
        said, self.agent = self.agent.end(how), None
        return said

    def call(self, *words: object) -> Said:
        """Call the command line with this bench's configuration."""
        return jidoka(*words, "--config", self.config)

    def records(self, kind: str = "") -> list[Recorded]:
        """All facts of the log, or those of one type."""
        return [r for r in asyncio.run(_records(self.data / "log")) if kind in ("", r.type.removesuffix("/1"))]

    @property
    def last(self) -> int:
        """Position of the log's last fact."""
        return self.records()[-1].position

    def until(
        self, kind: str, what: Callable[[Any], bool] = lambda _: True, *, after: int = 0, within_s: float = SOON_S
    ) -> Any:
        """Wait for a fact behind a position, and return it."""
        ends = time.monotonic() + within_s
        while True:
            with contextlib.suppress(FileNotFoundError):
                for record in self.records(kind):
                    if record.position > after and what(record.fact):
                        return record.fact
            assert time.monotonic() < ends, f"no {kind} within {within_s:g} s: {[r.type for r in self.records()]}"
            time.sleep(POLL_S)

    def warm(self) -> None:
        """Wait until the normal is learnt and the source lives."""
        self.until("calibration.adopted")

    def simulate(self, method: str, *arguments: ua.Variant) -> None:
        """Call a method of the plant's simulation object, as a user that the agent cannot be."""

        async def go() -> None:
            user = User(name="simulation", password_file=str(self.folder / "plant" / "users" / "simulation.password"))
            async with open_session(self.load().settings.opcua, user) as link:
                index = await link.client.get_namespace_index("urn:jidoka:plant")
                simulation = await link.client.nodes.objects.get_child(f"{index}:Simulation")
                await simulation.call_method(f"{index}:{method}", *arguments)

        asyncio.run(go())

    def inject(self, fault: str, tag: str = "") -> None:
        """Break something."""
        self.simulate("Inject", ua.Variant(fault), ua.Variant(1.0, ua.VariantType.Double), ua.Variant(tag))

    def plant_value(self, identifier: str) -> float:
        """Read a value at the server, past the agent."""

        async def go() -> float:
            settings = self.load().settings.opcua
            async with open_session(settings, settings.collector) as link:
                index = await link.client.get_namespace_index("urn:jidoka:plant")
                return float(await link.client.get_node(ua.NodeId(identifier, index)).read_value())

        return asyncio.run(go())


async def _records(folder: Path) -> list[Recorded]:
    store = open_readonly(folder)
    try:
        return [record async for record in store.read_all()]
    finally:
        await store.close()
