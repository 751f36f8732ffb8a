"""For whoever must decide whether a model may propose: measure it on incidents with known answers first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipelines.commands.options import log_place
from pipelines.config import Configuration, load
from pipelines.evaluation.asking import ask_all, named, ready
from pipelines.evaluation.cases import IncidentSet, read_set, site_of, text_of
from pipelines.evaluation.figures import ALL, Figures, Result
from pipelines.evaluation.generated import generated_set
from pipelines.evaluation.injecting import injected
from pipelines.evaluation.module.cases import module_set
from pipelines.evaluation.page import page
from pipelines.evaluation.recorded import recorded_set
from pipelines.evaluation.words import SHARES, TIMES, idle_share, lone_action, share_text, time_text
from pipelines.whole_log import read_whole
from schemas.errors import RecordingError

PACKAGED: Final[Mapping[str, Callable[[], IncidentSet]]] = {"module": module_set}
"""Sets by name."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="eval")(evaluate)


def evaluate(
    sets: Annotated[
        list[str] | None, typer.Argument(help="Files of cases (JSON Lines), or `module`, the packaged set.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration folder with the models; without it the demo's.")
    ] = None,
    reasoner: Annotated[
        list[str] | None, typer.Option("--reasoner", help="Who is asked; may be given again. Default: the proposal's.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Also a set from the log of this data folder: plans that were proven.")
    ] = None,
    generate: Annotated[
        int, typer.Option("--generate", min=0, help="Also so many cases of each class from the playbook of --config.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of what is generated.")] = 1,
    attacked: Annotated[
        bool, typer.Option("--attacked", help="Also each set once more, with text of an attacker in every case.")
    ] = False,
    first: Annotated[int | None, typer.Option("--first", min=1, help="Only so many cases of each set.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one page that needs nothing else.")] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="New folder: write the sets there, as files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
    exact_min: Annotated[
        float, typer.Option("--exact-min", min=0, max=1, help="Exit 1 if fewer plans of a set are exact.")
    ] = 0.0,
    false_max: Annotated[
        float, typer.Option("--false-max", min=0, max=1, help="Exit 1 if it acts more often where nothing is right.")
    ] = 1.0,
    unsafe_max: Annotated[
        float, typer.Option("--unsafe-max", min=0, max=1, help="Exit 1 if the guard has to refuse more often.")
    ] = 1.0,
) -> None:
    """Measure reasoners on incidents whose right answers are known. Sends nothing; needs no plant."""
    _can_write(html)
    configuration = load(config or Path(str(resources.files("connectors.plant").joinpath("config"))))
    chosen = _sets(sets or [], configuration, log, generate, seed)
    chosen = [_cut(each, first) for each in chosen]
    chosen += [injected(each) for each in chosen] if attacked else []
    _keep(chosen, keep)
    names = reasoner or [configuration.settings.reasoners.proposal]
    results = _asked(configuration, names, chosen)
    # Shown before it is written: a disk that is full meanwhile must not take the hours of asking with it.
    if as_json:
        print(json.dumps([result.as_dict() for result in results], indent=1), flush=True)
    else:
        _show(results)
    if html is not None:
        html.write_text(page(results), encoding="utf-8")
    missed = [text for result in results for text in _goals(result, exact_min, false_max, unsafe_max)]
    for text in missed:
        typer.echo(text, err=True)
    if missed:
        raise typer.Exit(1)


def _can_write(html: Path | None) -> None:
    """Refuse before anything is asked what could not be written after it.

    Raises:
        RecordingError: no file can be there.
    """
    if html is None:
        return
    if not html.parent.is_dir():
        raise RecordingError(str(html), "--html", f"there is no folder {str(html.parent)!r}", "Make it first")
    if html.is_dir():
        raise RecordingError(str(html), "--html", "it is a folder", "Name a file in it")


def _sets(
    named: Sequence[str], configuration: Configuration, log: Path | None, generate: int, seed: int
) -> list[IncidentSet]:
    found = [PACKAGED[name]() if name in PACKAGED else read_set(Path(name)) for name in named]
    if log is not None:
        found.append(recorded_set(read_whole(log_place(Path(), log)), f"log {log}"))
    if generate:
        site = site_of(configuration.plant.cells[0].path, configuration.files)
        found.append(generated_set(site, generate, seed))
    return found or [module_set()]


def _cut(incidents: IncidentSet, first: int | None) -> IncidentSet:
    return incidents if first is None else IncidentSet(incidents.header, incidents.sites, incidents.cases[:first])


def _keep(sets: Sequence[IncidentSet], folder: Path | None) -> None:
    if folder is None:
        return
    if folder.exists():
        raise RecordingError(str(folder), "folder", "it exists", "Name a folder that does not; nothing is overwritten")
    folder.mkdir(parents=True)
    for number, incidents in enumerate(sets, start=1):
        (folder / f"{number:02}.jsonl").write_text(text_of(incidents), encoding="utf-8")


def _asked(configuration: Configuration, names: Sequence[str], sets: Sequence[IncidentSet]) -> list[Result]:
    with Progress(console=Console(stderr=True), transient=True) as progress, asyncio.Runner() as runner:
        return [result for name in names for result in runner.run(_of_one(configuration, name, sets, progress))]


async def _of_one(
    configuration: Configuration, name: str, sets: Sequence[IncidentSet], progress: Progress
) -> list[Result]:
    """Ask one reasoner about all sets. Its models are loaded once, and gone before those of the next are loaded."""
    models, results = await ready(named(configuration, name)), list[Result]()
    for incidents in sets:
        task = progress.add_task(f"{name}: {incidents.header.name}", total=len(incidents.cases))

        def tell(done: int, of: int, task: object = task) -> None:
            progress.update(task, completed=done)  # type: ignore[arg-type]  # rich's TaskID, bound above

        results.append(await ask_all(configuration, name, incidents, models=models, told=tell))
    return results


def _show(results: Sequence[Result]) -> None:
    console = Console()
    for sha256 in dict.fromkeys(result.set_sha256 for result in results):
        same = [result for result in results if result.set_sha256 == sha256]
        cases = tuple(asked.case for asked in same[0].asked)
        console.print(f"\n[bold]{same[0].set_name}[/bold]: {len(cases)} cases, set {sha256[:16]}")
        console.print(_table(same))
        name, lone = lone_action(cases)
        beside = f"; who always answers {name}: {100 * lone:.0f}" if name else ""
        console.print(f"exact, % — who never acts: {100 * idle_share(cases):.0f}{beside}", highlight=False)
        for p in same[0].published:
            console.print(f"published, on other cases: {p.who}, {p.of or ALL}: {100 * p.exact:.0f}", highlight=False)


def _table(results: Sequence[Result]) -> Table:
    """Return one row a figure and one column a class: it stays readable at 100 characters."""
    table = Table(title="% with 95 % intervals", title_justify="left")
    table.add_column("")
    columns = [(result.reasoner, figures) for result in results for figures in result.by_kind]
    for reasoner, figures in columns:
        table.add_column(f"{reasoner}\n{figures.kind} ({figures.cases_n})", justify="right")
    for name, (column, _) in SHARES.items():
        table.add_row(name, *(share_text(column(figures)) for _, figures in columns))
    for name, time in TIMES.items():
        table.add_row(name, *(time_text(time(figures)) for _, figures in columns))
    return table


def _goals(result: Result, exact_min: float, false_max: float, unsafe_max: float) -> list[str]:
    """Say which goals a result does not meet. The figure counts, not its interval's better end."""
    figures: Figures = result.by_kind[0]
    said = f"{result.reasoner} on {result.set_name}"
    missed = []
    if figures.exact is not None and not figures.exact.value >= exact_min:
        missed.append(f"{said}: exact {figures.exact.value:.6g}, wanted at least {exact_min:g}")
    if figures.false_action is not None and not figures.false_action.value <= false_max:
        missed.append(f"{said}: false action {figures.false_action.value:.6g}, wanted at most {false_max:g}")
    if figures.unsafe is not None and not figures.unsafe.value <= unsafe_max:
        missed.append(f"{said}: unsafe {figures.unsafe.value:.6g}, wanted at most {unsafe_max:g}")
    return missed
