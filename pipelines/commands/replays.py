"""For incident replay: the state at any time, and the decisions again from the same input."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from pipelines.commands.options import HERE, Config, Data, log_place
from pipelines.config import load
from pipelines.hosting import Folders
from pipelines.replay import Replayed, refuse_sockets
from pipelines.replaying import replay_folder, sections, state_at
from pipelines.screen import status_table
from pipelines.status import view
from pipelines.whole_log import WholeLog, read_whole

app = typer.Typer(help="Fold or re-run what is recorded. Replay cannot act.", no_args_is_help=True)


@app.command()
def state(
    config: Config = HERE,
    data: Data = None,
    at: Annotated[str, typer.Option("--at", help="Agent time, ISO 8601, UTC if no zone is given.")] = "",
    pos: Annotated[int | None, typer.Option("--pos", help="Log position.")] = None,
) -> None:
    """Show what was known at a time or at a position of the log."""
    log, at_us = read_whole(log_place(config, data)), _microseconds(at)
    views = []
    for cell in log.cells:
        mine = log.of(cell)
        rules = sections(mine, log.blobs, cell)[-1].rules
        views.append(view(state_at(mine, cell, position=pos, at_us=at_us), rules).as_dict())
    Console().print(status_table(views))


@app.command()
def run(
    config: Config = HERE,
    data: Data = None,
    what_if: Annotated[
        Path | None, typer.Option("--with", help="Another configuration folder: where would it part ways?")
    ] = None,
) -> None:
    """Re-derive every fact from the kept input and compare byte for byte; exit 1 at the first difference."""
    place = log_place(config, data)
    log = read_whole(place)
    refuse_sockets()
    diverged = False
    for cell in log.cells:
        diverged |= not _replay_one(place.folders, log, cell, what_if)
    if diverged:
        raise typer.Exit(1)


def _replay_one(where: Folders, log: WholeLog, cell: str, what_if: Path | None) -> bool:
    records = log.of(cell)
    rules = None
    if what_if is not None:
        other = load(what_if)
        rules = next((other.rules_for(c) for c in other.plant.cells if c.path == cell), None)
    began = time.perf_counter()
    with Progress(transient=True) as progress:
        task = progress.add_task(cell, total=len(records))
        result = replay_folder(
            where, records, cell, blobs=log.blobs, rules=rules, progress=lambda _: progress.advance(task)
        )
    print(_said(cell, result, time.perf_counter() - began))
    return result.divergence is None


def _said(cell: str, result: Replayed, took_s: float) -> str:
    ratio = result.plant_s / took_s if took_s > 0 else 0.0
    text = (
        f"{cell}: {result.facts_compared} derived facts of {len(result.incidents)} incidents compared, "
        f"{result.inputs_fed} inputs fed, {result.plant_s:.0f} s in {took_s:.2f} s ({ratio:.0f}x)"
    )
    if result.left_out:
        spans = ", ".join(f"{first} to {last}" for first, last in result.spans)
        text += f"\n{result.left_out} derived facts were not re-run, since their input is not kept any more; "
        text += f"re-run were records {spans}, each stretch from its detectors' snapshot on"
    if result.divergence is None:
        return f"{text}: the same, byte for byte"
    where = result.divergence
    return (
        f"{text}\nFIRST DIFFERENCE at position {where.position}"
        f"\n  recorded: {where.recorded or 'nothing'}\n  replayed: {where.replayed or 'nothing'}"
    )


def _microseconds(text: str) -> int | None:
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a time: write e.g. 2026-01-01T12:00:00") from error
    zoned = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return int(zoned.timestamp() * 1e6)
