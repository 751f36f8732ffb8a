"""For the reliability engineer: run the detectors over recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipelines.backtest import Backtest, backtest
from pipelines.commands.options import CellOption, the_cell
from pipelines.commands.published import Asked, run_protocols
from pipelines.config import load
from pipelines.detectors.calibration import FILE as CALIBRATION
from pipelines.log_view import clock_text
from pipelines.playback import play_back
from schemas.errors import RecordingError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="backtest")(run_backtest)


def run_backtest(
    paths: Annotated[list[Path], typer.Argument(help="Recordings (CSV, CSV.gz, Parquet), or folders of them.")],
    warm_up_rows: Annotated[int | None, typer.Option("--warm-up", help="Rows of each file taken for normal.")] = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="New folder: also run each file through the agent into a log there.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The columns are the tags of this folder's cell, as calibrated."),
    ] = None,
    cell: CellOption = "",
    protocol: Annotated[
        Asked | None,
        typer.Option("--protocol", help="The path is a folder laid out as these published sets: score it."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="With a protocol (default all): table for file and row.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="With a protocol (default all): page with plots, FILE.html or folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With a protocol (default all): figures as JSON.")] = False,
) -> None:
    """Run the detectors over recordings and list the episodes, or score them on published sets.

    Ctrl-C keeps what was found so far.
    """
    if protocol or predictions or report or as_json:
        _only_a_folder(paths, warm_up_rows, record, config)
        good = run_protocols(paths[0], protocol or Asked.ALL, predictions=predictions, report=report, as_json=as_json)
        raise typer.Exit(0 if good else 1)
    known, calibration = None, b""
    if config is not None:
        configuration = load(config)
        known = the_cell(configuration, cell)
        calibration = configuration.files.get(CALIBRATION, b"")
    with Progress(transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def tell(done: int, total: int, file: str) -> None:
            progress.update(task, completed=done, total=total, description=Path(file).name)

        result = backtest(paths, warm_up_rows=warm_up_rows, cell=known, calibration=calibration, on_progress=tell)
    console = Console()
    console.print(_table(result))
    for each in result.files:
        if each.error:
            console.print(f"not used: {each.error}", soft_wrap=True)
    _summary(result)
    if record is not None:
        _record([Path(each.file) for each in result.files if not each.error], record)
    if any(each.error for each in result.files) or result.interrupted:
        raise typer.Exit(1)


def _only_a_folder(paths: list[Path], warm_up_rows: int | None, record: Path | None, config: Path | None) -> None:
    """Refuse what makes no sense with a protocol: it says itself which files there are and which rows are learnt."""
    options = {"--warm-up": warm_up_rows, "--record": record, "--config": config}
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise RecordingError(given[0], "option", "it does not go with a protocol", "Leave it out")
    if len(paths) != 1 or not paths[0].is_dir():
        problem = "a protocol takes one folder, with skab/, tep/ or nab/ in it"
        raise RecordingError(", ".join(map(str, paths)), "path", problem, "Name that folder (docs/backtest.md)")


def _record(paths: list[Path], record: Path) -> None:
    if record.exists():
        raise RecordingError(str(record), "folder", "it exists", "Name a folder that does not; nothing is overwritten")
    for number, path in enumerate(paths, 1):
        folder = record / f"{number:03d}-{path.name.split('.')[0]}"
        came = play_back(path, folder)
        print(f"{folder}: {came.inputs} inputs, {came.episodes} episodes, {came.incidents} incidents", flush=True)


def _table(result: Backtest) -> Table:
    table = Table(title="episodes", title_justify="left")
    for column in ("file", "tag", "detector", "onset (UTC)", "cleared (UTC)", "rows", "peak z"):
        table.add_column(column, overflow="fold")
    for found in result.episodes:
        cleared = clock_text(found.cleared_at) if found.cleared_at is not None else "open"
        peak = f"{found.peak_z:+.1f}" if found.peak_z else ""
        name = Path(found.file).name
        table.add_row(name, found.tag, found.detector, clock_text(found.onset_at), cleared, str(found.rows), peak)
    return table


def _summary(result: Backtest) -> None:
    rows = sum(each.rows for each in result.files)
    stopped = "; stopped before the end" if result.interrupted else ""
    print(f"{len(result.files)} files, {rows} rows, {len(result.episodes)} episodes{stopped}")
