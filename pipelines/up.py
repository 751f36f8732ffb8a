"""Starts all processes of the Kafka runtime on one machine, and starts again whichever ends. `jidoka up`.

Each child is a `jidoka` command of its own; what it says goes on, with its name before it. A child that ends too often
is not given up: the pauses grow up to a bound, and it says so each time. None outlives the supervisor, whatever becomes
of it (`pipelines.supervised`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

STEADY_S = 30.0
"""Wall time after which a start counts as good, and the next pause is the first one again."""
PAUSE_S, PAUSE_S_MAX = 0.5, 10.0
"""Wall time before a child is started again, doubled each time up to the bound."""
END_S = 15.0
"""Wall time for an orderly end; then it is killed."""
LINE_BYTES_MAX = 65_536


@dataclass(slots=True)
class Child:
    """One process."""

    name: str
    arguments: Sequence[str]
    port: int = 0
    """Where it tells how it is; 0: nowhere."""
    module: str = "pipelines.cli"
    """What Python runs."""
    process: asyncio.subprocess.Process | None = None
    starts: int = 0


class Supervisor:
    """Keeps children running."""

    def __init__(
        self, children: Sequence[Child], say: Callable[[str], None], *, forward: Callable[[str], None] | None = None
    ) -> None:
        """Prepare.

        Args:
            children: What is to run.
            say: Told what becomes of them.
            forward: Given what they say as it is; None: that goes to `say`, with the child's name before it.
        """
        self.children = list(children)
        self._say, self._forward = say, forward
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Supervisor]:
        """Start all; end all at the end."""
        self._tasks = [asyncio.create_task(self._keep(child)) for child in self.children]
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, child: Child) -> None:
        pause_s = PAUSE_S
        while True:
            began_s = asyncio.get_running_loop().time()
            try:
                status: int | str = await self._once(child)
            except OSError as error:  # No process could be made now: no memory, too many files.
                status = str(error)
            lived_s = asyncio.get_running_loop().time() - began_s
            pause_s = PAUSE_S if lived_s > STEADY_S else min(pause_s * 2, PAUSE_S_MAX)
            self._say(f"{child.name} ended with status {status} after {lived_s:.0f} s; again in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def _once(self, child: Child) -> int:
        process = child.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pipelines.supervised",
            child.module,
            *child.arguments,
            stdin=asyncio.subprocess.PIPE,  # Nothing is written: it ends with us, and the child with it.
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
        )
        child.starts += 1
        try:
            assert process.stdout is not None
            while line := await _line(process.stdout):
                said = line.decode(errors="replace").rstrip()
                self._say(f"{child.name}: {said}") if self._forward is None else self._forward(said)
            return await process.wait()
        finally:
            await _end(process)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, empty at the end; of one that is too long, what it ends with."""
    while True:
        with contextlib.suppress(ValueError):
            return await stream.readline()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(_drained(process)), END_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _drained(process: asyncio.subprocess.Process) -> None:
    """Read what it still says, so that it is not held up by a full pipe, and wait for its end."""
    assert process.stdout is not None
    while await process.stdout.read(LINE_BYTES_MAX):
        pass
    await process.wait()


def children_of(config: Path, kafka: str, *, workers: int, http: int = 0, log: str = "text") -> list[Child]:
    """Return the processes of one machine: one collector, some workers, one decision service, one keeper.

    Args:
        config: Configuration folder.
        kafka: Broker, instead of the configuration's; empty: that one.
        workers: For detection.
        http: Port of the first one, the others follow in this order; 0: none tells how it is.
        log: How they log.
    """
    common = ["--config", str(config), *(["--kafka", kafka] if kafka else []), "--log", log]
    names = ["collect", *(f"detect-{number}" for number in range(1, workers + 1)), "decide", "keep"]
    children = []
    for number, name in enumerate(names):
        port = http + number if http else 0
        children.append(Child(name, [name.partition("-")[0], *common, "--http", str(port)], port))
    return children


def counts(children: Sequence[Child]) -> Mapping[str, int]:
    """Return how often each child was started."""
    return {child.name: child.starts for child in children}
