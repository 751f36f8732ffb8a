"""A protocol over its folder: read, predict, mark, with progress. Ctrl-C keeps the files that are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import assert_never

from pipelines.detectors.config import DetectorConfig
from pipelines.protocols.layout import (
    SKAB_FIT_ROWS,
    TEP_FIT,
    TEP_TEST,
    Protocol,
    files_of,
    key_of,
    read_nab,
    read_skab,
    read_tep,
    read_windows,
)
from pipelines.protocols.marking import mark
from pipelines.protocols.marks import Judged, Line
from pipelines.protocols.predicting import learn, predict, predict_from
from pipelines.protocols.windows import probation_rows
from schemas.errors import RecordingError

WHO = "jidoka"

Progress = Callable[[int, int, str], None]
"""(files done, files in all, file that begins)."""
Work = tuple[str, Callable[[], Judged]]
"""A file, and what reads and predicts it."""


@dataclass(slots=True)
class Ran:
    """What a protocol has come to so far."""

    protocol: Protocol
    files: int
    """In the folder."""
    judged: list[Judged] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Why files could not be used."""
    interrupted: bool = False
    """Whether somebody stopped it: figures are of the files before."""

    @property
    def unlabelled(self) -> list[str]:
        """Files that were predicted and cannot be scored."""
        return [each.series.key for each in self.judged if not each.series.labelled]

    def lines(self) -> list[Line]:
        """Return its table."""
        return mark(self.protocol, self.judged, WHO)


def run(
    folder: Path,
    protocols: Sequence[Protocol],
    *,
    config: DetectorConfig | None = None,
    on_progress: Progress = lambda done, total, file: None,
) -> list[Ran]:
    """Run protocols over a folder laid out as the published sets.

    A file that cannot be used is listed with its error and the others go on.

    Args:
        folder: That holds `skab/`, `tep/` or `nab/`.
        protocols: Each must be there.
        config: The same for every file; none is tuned.
        on_progress: Told before each file.

    Raises:
        RecordingError: a set is missing, empty, or lacks what all of its files need.
    """
    work = {protocol: list(_work(folder, protocol, config)) for protocol in protocols}
    total, done, results = sum(map(len, work.values())), 0, []
    for protocol, files in work.items():
        ran = Ran(protocol, len(files))
        results.append(ran)
        try:
            for name, judge in files:
                on_progress(done, total, name)
                _one(ran, judge)
                done += 1
        except KeyboardInterrupt:
            ran.interrupted = True
            break
    return results


def _one(ran: Ran, judge: Callable[[], Judged]) -> None:
    try:
        ran.judged.append(judge())
    except RecordingError as error:
        ran.errors.append(str(error))


def _work(folder: Path, protocol: Protocol, config: DetectorConfig | None) -> Iterator[Work]:
    files = files_of(folder, protocol)
    match protocol:
        case "skab":
            for path in files:
                yield str(path), partial(_skab, folder, path, config)
        case "tep":
            yield from _tep(folder, files, config)
        case "nab":
            labels = read_windows(folder)
            for path in files:
                yield str(path), partial(_nab, folder, path, labels, config)
        case _:
            assert_never(protocol)


def _skab(folder: Path, path: Path, config: DetectorConfig | None) -> Judged:
    series = read_skab(folder, path)
    return Judged(series, predict(series, SKAB_FIT_ROWS, config))


def _nab(folder: Path, path: Path, labels: dict[str, list[list[str]]] | None, config: DetectorConfig | None) -> Judged:
    series = read_nab(folder, path, labels)
    return Judged(series, predict(series, probation_rows(len(series)), config))


def _tep(folder: Path, files: Sequence[Path], config: DetectorConfig | None) -> Iterator[Work]:
    normal = [path for path in files if key_of(folder, path) == f"tep/{TEP_FIT}"]
    if not normal:
        remedy = f"Put the 500 normal rows there as {TEP_FIT}.parquet or {TEP_FIT}.csv"
        raise RecordingError(str(folder / "tep"), TEP_FIT, "the recording to learn from is missing", remedy)
    fit = read_tep(folder, normal[0])
    learnt = learn(fit, config)

    def judge(path: Path) -> Judged:
        series = read_tep(folder, path)
        if series.columns != fit.columns:
            odd = sorted(set(series.columns) ^ set(fit.columns)) or ["their order"]
            remedy = "All files of tep/ have the same columns in the same order"
            raise RecordingError(str(path), f"column {odd[0]!r}", f"differs from those of {TEP_FIT}", remedy)
        return Judged(series, predict_from(learnt, series, config))

    for path in files:
        if key_of(folder, path).endswith(TEP_TEST):
            yield str(path), partial(judge, path)
