"""The part of `jidoka backtest` that runs published protocols over their folders."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from pipelines.protocols.layout import PROTOCOLS, Protocol, protocols_in
from pipelines.protocols.predictions import check_target, write
from pipelines.protocols.report import report_target, write_report
from pipelines.protocols.results import document, text
from pipelines.protocols.running import Ran, run


class Asked(StrEnum):
    """Which protocols."""

    SKAB = "skab"
    TEP = "tep"
    NAB = "nab"
    ALL = "all"


def run_protocols(folder: Path, asked: Asked, *, predictions: Path | None, report: Path | None, as_json: bool) -> bool:
    """Run protocols over a folder and print their figures; return whether every file was used.

    Args:
        folder: That holds `skab/`, `tep/` or `nab/`.
        asked: Of all, those that are there.
        predictions: Where the table goes.
        report: Where the page goes: an HTML file, or a folder for it.
        as_json: Whether the figures are printed as JSON.

    Raises:
        RecordingError: what is asked cannot be done; said before any work where that is possible.
    """
    if predictions is not None:
        check_target(predictions)
    page = None if report is None else report_target(report)
    wanted = [name for name in PROTOCOLS if asked in (Asked.ALL, name)]
    results = _run(folder, protocols_in(folder, wanted))
    if predictions is not None:
        write([each.predictions for ran in results for each in ran.judged], predictions)
    if page is not None:
        write_report(results, page)
    print(msgspec.json.encode(document(results)).decode() if as_json else text(results), flush=True)
    return not any(ran.errors or ran.interrupted for ran in results)


def _run(folder: Path, protocols: Sequence[Protocol]) -> list[Ran]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def tell(done: int, total: int, file: str) -> None:
            progress.update(task, completed=done, total=total, description=Path(file).name)

        return run(folder, protocols, on_progress=tell)
