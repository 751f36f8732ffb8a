"""For the controls engineer: run the agent, the simulated cell, the demo, and the doctor."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import HERE, Config, Http, Log, LogForm, prepared
from pipelines.commands.topics import Kafka, kafka_settings
from pipelines.config import load
from pipelines.hosting import Parts
from pipelines.log_lines import announce
from pipelines.runner import running, until_failure


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, cell, demo, doctor):
        app.command()(command)


def run(config: Config = HERE, http: Http = None, log: Log = LogForm.TEXT) -> None:
    """Run the agent of a configuration folder until it is told to end."""
    configuration = prepared(config, http, log, "run")

    async def go() -> None:
        async with running(configuration, parts_of(configuration)) as runtime:
            announce(f"running {', '.join(runtime.services)}; operator socket {runtime.folders.socket}")
            await until_failure(runtime)

    until_told(go())


def parts_of(configuration: Any) -> Parts:
    """Return the parts for the mode; mode observe never loads what can write."""
    if configuration.settings.mode == "observe":
        from pipelines.observe import observe_parts

        return observe_parts(configuration)
    from pipelines.act import act_parts

    return act_parts(configuration)


def cell(
    data: Annotated[Path, typer.Option("--data", help="Folder for ledger, certificates and users; made if missing.")],
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 0,
    speed: Annotated[float, typer.Option("--speed", help="Plant time per wall time, up to 20.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of everything in the plant that is chance.")] = 1,
    insecure: Annotated[bool, typer.Option("--insecure", help="Also offer security None.")] = False,
    origin_us: Annotated[int | None, typer.Option("--origin-us", help="When plant and wall time are equal.")] = None,
) -> None:
    """Run the simulated cell behind its OPC UA server."""
    from connectors.plant.process import CellSettings, serve_cell

    settings = CellSettings(data=data, port=port, speed=speed, seed=seed, insecure=insecure, origin_us=origin_us)
    until_told(serve_cell(settings))


def demo(
    script: Annotated[str, typer.Option("--script", help="Scenes to play by themselves: all, or letters.")] = "",
    headless: Annotated[bool, typer.Option("--headless", help="Lines instead of a screen.")] = False,
    speed: Annotated[float, typer.Option("--speed", help="Plant time per wall time, up to 20.")] = 10.0,
    seed: Annotated[int, typer.Option("--seed")] = 1,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder; a new one under ./var if left out.")] = None,
    kafka: Annotated[str, typer.Option("--kafka", help="Play the scenes over this broker, HOST:PORT.")] = "",
) -> None:
    """Show it all: a simulated cell, the agent, faults at a key press; or scripted scenes that must come out so."""
    from pipelines.demo.play import LETTERS, interactive, scripted

    if script != "all" and not set(script) <= set(LETTERS):
        raise typer.BadParameter(f"{script!r}: write all, or some of the letters {', '.join(LETTERS)}")
    if kafka and not script:
        raise typer.BadParameter("--kafka goes with --script: all, or letters")
    if script:
        raise typer.Exit(scripted(script, speed=speed, seed=seed, data=data, kafka=kafka))
    interactive(speed=speed, seed=seed, data=data, headless=headless)


def doctor(config: Config = HERE, kafka: Kafka = "") -> None:
    """Check configuration, plant, this machine, and broker and database if there are any; say what to mend."""
    from pipelines.doctor import examine

    configuration = load(config)
    print(f"ok    configuration: {len(configuration.plant.cells)} cells, all files agree")
    broker = kafka_settings(config, kafka) if kafka else configuration.settings.kafka
    failed = False
    for subject, check in examine(configuration, broker):
        failed |= not check.ok
        print(f"{'ok  ' if check.ok else 'MEND'}  {subject}: {check.name}: {check.detail}", flush=True)
        if not check.ok:
            print(f"      -> {check.remedy}")
    if failed:
        raise typer.Exit(1)


def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until done, SIGINT or SIGTERM; both end it in order, and a second one does not disturb that."""

    async def go() -> None:
        task, told = asyncio.ensure_future(work), False

        def end() -> None:
            nonlocal told
            if not told:
                told = True
                task.cancel()

        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, end)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(go())
