"""An acting agent in a process of its own that kills itself with SIGKILL at a named point.

    python -m tests.support.killed_agent CONFIG SIMULATION_PASSWORD_FILE [--at LABEL] [--count N]

It is the product's own wiring (`act_parts`, `running`); what is durable and what acts is wrapped with points. Beside it
run a scripted operator, who approves whatever waits, and a hand that once, when the normal is learnt, oils the pads. It
ends with 0 when the incident is closed or escalated, and nothing is owed any more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncua import ua

from connectors.eventlog.sqlite import SqliteStore
from connectors.opcua.session import open_session
from connectors.robots import ROBOTS
from pipelines import act, runner
from pipelines.config import Configuration, load
from pipelines.decide import CellService
from schemas import facts
from schemas.facts import OperatorRequested
from schemas.settings import User
from tests.support.crashing import CrashingBlobs, CrashingKeeper, CrashingRobot, CrashingStore, Points

LOOK_S = 0.02
OVER_WITHIN_S = 90.0


class NamedPoint(Points):
    """Kills at the `count`-th crossing whose label begins with `at`."""

    def __init__(self, at: str, count: int) -> None:
        super().__init__()
        self._at, self._left = at, count

    def cross(self, label: str) -> None:
        if self._at and label.startswith(self._at):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def wrap(points: Points) -> None:
    """Put points into everything that the runner will make in this process."""
    blobs, keeper, robots = runner.FileBlobs, runner.FolderKeeper, dict(ROBOTS)

    class Stores:
        @staticmethod
        def open(folder: Path, **clock: Any) -> CrashingStore:
            return CrashingStore(SqliteStore.open(folder, **clock), points)

    def wrapped(make: Any) -> Any:
        return lambda *parts: CrashingRobot(make(*parts), points)

    runner.SqliteStore = Stores  # type: ignore[misc, assignment]
    runner.FileBlobs = lambda folder: CrashingBlobs(blobs(folder), points)  # type: ignore[misc, assignment]
    runner.FolderKeeper = lambda *a, **k: CrashingKeeper(keeper(*a, **k), points)  # type: ignore[misc, assignment]
    act.ROBOTS = {kind: wrapped(make) for kind, make in robots.items()}


async def _approve(service: CellService, clock: Any) -> None:
    asked: set[str] = set()
    while True:
        for command_id, progress in list(service.state.commands.items()):
            if progress.phase == "awaiting_approval" and command_id not in asked:
                asked.add(command_id)
                await service.put(
                    OperatorRequested(
                        at=clock.now_us(),
                        request_id=f"approve-{command_id}",
                        who="operator",
                        kind="approve",
                        target=command_id,
                        command_sha256=progress.sha256,
                    )
                )
        await asyncio.sleep(LOOK_S)


async def _break(configuration: Configuration, password_file: str, learnt: asyncio.Event) -> None:
    """Oil the pads once in the life of the data folder."""
    marker = configuration.data / "oiled"
    await learnt.wait()
    if marker.exists():
        return
    async with open_session(configuration.settings.opcua, User(name="simulation", password_file=password_file)) as link:
        index = await link.client.get_namespace_index("urn:jidoka:plant")
        simulation = await link.client.nodes.objects.get_child(f"{index}:Simulation")
        arguments = (ua.Variant("oil_on_pads"), ua.Variant(1.0, ua.VariantType.Double), ua.Variant(""))
        await simulation.call_method(f"{index}:Inject", *arguments)
    marker.touch()


async def _until_over(service: CellService, slipped: asyncio.Event) -> None:
    await slipped.wait()
    while True:
        state = service.state
        owed = state.commands or state.notifications or state.plans
        if not owed and all(i.escalation for i in state.incidents.values()):
            return
        await asyncio.sleep(LOOK_S)


async def _main(configuration: Configuration, password_file: str) -> None:
    async with runner.running(configuration, act.act_parts(configuration)) as runtime:
        (service,) = runtime.services.values()
        learnt = asyncio.Event()
        slipped = asyncio.Event()

        def look(said: Sequence[facts.AnyFact]) -> None:
            """A busy machine may also have an alarm about the data: that is not the story."""
            if any(isinstance(fact, facts.CalibrationAdopted) for fact in said):
                learnt.set()
            if any(isinstance(fact, facts.IncidentOpened) and fact.kind == "process" for fact in said):
                slipped.set()

        look([record.fact async for record in runtime.store.read_all()])
        service.listeners.append(look)
        beside = [
            asyncio.create_task(_approve(service, runtime.clock)),
            asyncio.create_task(_break(configuration, password_file, learnt)),
            asyncio.create_task(runner.until_failure(runtime)),
        ]
        over = asyncio.create_task(_until_over(service, slipped))
        await asyncio.wait([over, beside[2]], timeout=OVER_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        for task in [*beside, over]:
            task.cancel()
        await asyncio.gather(*beside, over, return_exceptions=True)
        if runtime.failure is not None:
            raise runtime.failure
        if over.cancelled():
            raise TimeoutError(f"the story was not over within {OVER_WITHIN_S} s: {service.state.commands}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("simulation_password_file")
    parser.add_argument("--at", default="")
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    wrap(NamedPoint(options.at, options.count))
    asyncio.run(_main(load(options.config), options.simulation_password_file))


if __name__ == "__main__":
    main()
    sys.exit(0)
