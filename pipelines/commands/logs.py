"""For the auditor and the data engineer: read, verify and export what is stored. Works while the agent runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.progress import Progress

from connectors.eventlog.checking import Verification
from connectors.eventlog.subjects import subjects
from pipelines import exporting
from pipelines.commands.options import HERE, Config, Data, log_place
from pipelines.log_place import LogPlace
from pipelines.log_view import clock_text, line
from schemas.records import Recorded

app = typer.Typer(help="Read and verify the event log.", no_args_is_help=True)


class _Exports(typer.core.TyperGroup):
    """`jidoka export OUT` is `jidoka export record OUT`; a folder called like a command is given as `./record`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if named else ["record", *args])


exports = typer.Typer(
    cls=_Exports,
    help="Export what is stored: `jidoka export OUT` writes facts as JSON lines and samples as Parquet.",
    no_args_is_help=True,
)


@app.command()
def tail(
    config: Config = HERE,
    data: Data = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as facts come.")] = False,
    count: Annotated[int, typer.Option("-n", help="How many of the last facts.")] = 20,
) -> None:
    """Show the last facts."""
    asyncio.run(_tail(log_place(config, data), count, follow))


async def _tail(place: LogPlace, count: int, follow: bool) -> None:
    store = place.open()
    try:
        head = await store.head()
        async for record in store.read_all(after=max(0, head.position - count), follow=follow):
            print(line(record), flush=True)
    finally:
        await store.close()


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A position, or the id (or its start) of an incident, plan or command.")],
    config: Config = HERE,
    data: Data = None,
) -> None:
    """Show one record whole, or the story of an incident."""
    records = asyncio.run(_find(log_place(config, data), what))
    if not records:
        print(f"nothing in the log is called {what!r}")
        raise typer.Exit(1)
    for record in records:
        print(line(record))
    if len(records) == 1:
        print(records[0].data.decode())
        print(f"recorded_at {records[0].recorded_at}  chain {records[0].chain.hex()}")


async def _find(place: LogPlace, what: str) -> list[Recorded]:
    store = place.open()
    try:
        if what.isdigit() and len(what) < 8:
            return await store.read_at([int(what)])
        found = await store.read_at(await store.positions_of(what))
        # An incident's story is also that of its episodes, questions, plans and commands.
        related = {name for record in found for name in subjects(record.fact) if _tells(record)}
        positions = {record.position for record in found}
        for name in related:
            positions.update(await store.positions_of(name))
        return await store.read_at(sorted(positions))
    finally:
        await store.close()


def _tells(record: Recorded) -> bool:
    """Whether a record names what else belongs to its incident."""
    return record.type in ("incident.opened/1", "incident.joined/1", "reasoner.asked/1", "plan.proposed/1")


@app.command()
def verify(config: Config = HERE, data: Data = None) -> None:
    """Re-read every record, chain and head; name the first that was edited, deleted, reordered or cut."""
    place = log_place(config, data)
    with Progress(transient=True) as progress:
        task = progress.add_task("verifying", total=None)
        result = place.verify(lambda done, total: progress.update(task, completed=done, total=total))
    print(_said(result, place))
    if not result.ok:
        raise typer.Exit(1)


def _said(result: Verification, place: LogPlace) -> str:
    if not result.ok:
        where = f"record {result.position}" if result.position else place.name
        return f"NOT AS WRITTEN: {where}: {result.kind}: {result.detail} ({result.checked_n} records before it verify)"
    if result.head is None:
        return f"{result.checked_n} records verify; there is no signed head yet"
    head = result.head
    return (
        f"{result.checked_n} records verify: every payload, every link of the chain, and the signed head at position "
        f"{head.position} of {clock_text(head.signed_at)} UTC\nlog {head.log_id}, public key {head.public_key.hex()}"
    )


@exports.command("record")
def export_record(
    out: Annotated[Path, typer.Argument(help="Folder for facts.jsonl and samples.parquet; must not exist yet.")],
    config: Config = HERE,
    data: Data = None,
) -> None:
    """Export facts as JSON lines and samples as Parquet."""
    counts = asyncio.run(exporting.export(log_place(config, data), out))
    print(f"{counts.facts} facts in {out / 'facts.jsonl'}, {counts.samples} samples in {out / 'samples.parquet'}")
