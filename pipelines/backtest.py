"""Recorded files through the detectors: what they would have found, as a table. Decides nothing, acts on nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from connectors.recordings.play import play
from connectors.recordings.sniff import Sniffed, sniff
from connectors.recordings.table import SUFFIXES
from pipelines.calibration.historian import as_recorded, mapping_for
from pipelines.detectors.config import DetectorConfig
from pipelines.detectors.episodes import Episode
from pipelines.detectors.suite import Suite
from schemas.errors import RecordingError
from schemas.facts import AnomalyDetected
from schemas.plant import Cell
from schemas.samples import Kept, Tick


@dataclass(frozen=True, slots=True)
class Found:
    """One episode of one file: a line of the table. Times are microseconds since 1970 UTC."""

    file: str
    tag: str
    detector: str
    onset_at: int
    detected_at: int
    """End of the row at which it opened."""
    cleared_at: int | None
    """None: open at the end of the file."""
    rows: int
    """Rows that it was open."""
    peak_z: float
    """Signed; 0 without a baseline."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What one file gave."""

    file: str
    rows: int
    episodes: tuple[Found, ...]
    error: str = ""
    """Why the file could not be used; empty if it could."""


@dataclass(slots=True)
class Backtest:
    """The result so far."""

    files: list[FileResult] = field(default_factory=list)
    interrupted: bool = False
    """Whether somebody stopped it: files that are not listed were not run."""

    @property
    def episodes(self) -> list[Found]:
        """All lines of the table, files in order, episodes by onset."""
        return [found for result in self.files for found in result.episodes]


Progress = Callable[[int, int, str], None]
"""(files done, files in all, file that begins)."""


def backtest(
    paths: Iterable[Path],
    *,
    config: DetectorConfig | None = None,
    warm_up_rows: int | None = None,
    mapped: Sniffed | None = None,
    cell: Cell | None = None,
    calibration: bytes = b"",
    on_progress: Progress = lambda done, total, file: None,
) -> Backtest:
    """Run the detectors over files and folders.

    A file that cannot be used is listed with its error, and the others go on. An interrupt (Ctrl-C) ends it and keeps
    what was found in the files before.

    Args:
        paths: Files, or folders that are searched for CSV, CSV.gz and Parquet.
        config: Which detectors run.
        warm_up_rows: Rows at the beginning of each file that are taken for normal; None: its first quarter, at most
            400. For files without a mapping.
        mapped: Mapping and cell for all files; None draws them up for each file.
        cell: Whose tags the columns are, by their names; None: each file is a cell of its own.
        calibration: What is normal for that cell from the first row on; empty: it warms up.
        on_progress: Told before each file.

    Raises:
        RecordingError: no file at all.
    """
    files = find(paths)
    result = Backtest()
    try:
        for done, path in enumerate(files):
            on_progress(done, len(files), str(path))
            result.files.append(_run(path, partial(_known, path, mapped, cell, warm_up_rows), config, calibration))
    except KeyboardInterrupt:
        result.interrupted = True
    return result


def find(paths: Iterable[Path]) -> list[Path]:
    """Return the recordings among these files and below these folders, each folder in the order of names.

    Raises:
        RecordingError: there are none.
    """
    paths = list(paths)
    files = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES)) if path.is_dir() else [path]
        files += inside
    if not files:
        where = ", ".join(str(path) for path in paths) or "(no path)"
        raise RecordingError(where, "folder", f"no file that ends in {', '.join(SUFFIXES)}", "Name another path")
    return files


def _known(path: Path, mapped: Sniffed | None, cell: Cell | None, warm_up_rows: int | None) -> Sniffed:
    if mapped is not None:
        return mapped
    if cell is not None:
        mapping = mapping_for(path, cell)
        return Sniffed(mapping, as_recorded(cell, mapping))
    return sniff(path, warm_up_rows=warm_up_rows)


def _run(path: Path, know: Callable[[], Sniffed], config: DetectorConfig | None, calibration: bytes) -> FileResult:
    try:
        known = know()
        messages = play(path, known.mapping, known.cell)
    except RecordingError as error:
        return FileResult(str(path), 0, (), str(error))
    suite = Suite(known.cell, config, calibration)
    opened: dict[str, AnomalyDetected] = {}
    ended: dict[str, Episode] = {}
    rows = watermark = 0
    for position, message in enumerate(messages, 1):
        if isinstance(message, Tick):
            watermark = message.complete_until
        fed = suite.feed(Kept(position, watermark, message))
        rows += len(fed.rows)
        opened |= {fact.episode_id: fact for fact in fed.facts if isinstance(fact, AnomalyDetected)}
        ended |= {episode.episode_id: episode for episode in fed.ended}
    ended |= {episode.episode_id: episode for episode in suite.episodes.open.values()}
    found = tuple(_found(path, fact, ended[fact.episode_id]) for fact in opened.values())
    return FileResult(str(path), rows, tuple(sorted(found, key=lambda one: one.onset_at)))


def _found(path: Path, fact: AnomalyDetected, episode: Episode) -> Found:
    return Found(
        file=str(path),
        tag=fact.tag,
        detector=fact.detector,
        onset_at=fact.onset_at,
        detected_at=fact.evidence.row_at,
        cleared_at=episode.ended_at or None,
        rows=episode.rows,
        peak_z=episode.peak_z,
    )
