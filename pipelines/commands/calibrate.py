"""For the reliability engineer: learn what is normal from a historian, before the agent runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from connectors.eventlog.files import write_durably
from pipelines.backtest import find
from pipelines.calibration.historian import gather
from pipelines.calibration.labels import Label, read_labels
from pipelines.calibration.normals import Normal, TagNormal, find_normal
from pipelines.commands.options import CellOption, Config, the_cell
from pipelines.config import load, parse_file
from pipelines.detectors.calibration import FILE, GroupNormal, cells_of, encode_calibration, normals_for
from pipelines.log_view import clock_text
from pipelines.protocols.results import Shown, aligned
from schemas.errors import ConfigError, RecordingError
from schemas.plant import Plant
from schemas.recording import RecordingMapping

STRETCHES_MAX: Final = 20
"""Suspicious stretches that are printed."""
HEADS: Final = (
    "tag", "unit", "used", "rejected", "centre", "spread", "remembers s", "false a day", "in days", "limit ×", "before",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="calibrate")(calibrate)


def calibrate(
    paths: Annotated[list[Path], typer.Argument(help="Historian files (CSV, CSV.gz, Parquet), or folders of them.")],
    config: Config,
    cell: CellOption = "",
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="How the files are read (TOML); else columns are named as tags.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Alarms that people judged (TOML), as docs/backtest.md shows.")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only say what would come of it.")] = False,
) -> None:
    """Learn what is normal for a cell's tags from its historian; the agent adopts it at its next start."""
    configuration = load(config)
    known = the_cell(configuration, cell)
    said: Sequence[Label] = () if labels is None else read_labels(labels, known)
    gathered = gather(find(paths), known, None if mapping is None else parse_file(mapping, RecordingMapping))
    found = [normal for rows in gathered if (normal := find_normal(rows, known, said)) is not None]
    if not found:
        problem = f"no tag that is watched in cell {known.id!r} has enough good values"
        raise RecordingError(", ".join(map(str, paths)), "columns", problem, "Give files of this cell's tags")
    path, data = config / FILE, configuration.files.get(FILE, b"")
    before = {
        name: float(factor) for n in normals_for(data, known) for name, factor in zip(n.tags, n.widen, strict=True)
    }
    _tell(found, before)
    if dry:
        print("nothing was written")
        return
    kept = _others(configuration.plant, data, known.path)
    whole = encode_calibration({**kept, known.path: [normal.normal for normal in found]})
    try:
        write_durably(path, whole)
    except OSError as error:
        remedy = "Free the disk, or mend the folder's rights"
        raise ConfigError(str(path), "(file)", f"cannot be written: {error}", remedy) from error
    print(f"{path}: adopted at the next start of the agent, and by jidoka backtest --config {config}")


def _others(plant: Plant, data: bytes, besides: str) -> dict[str, tuple[GroupNormal, ...]]:
    """Return what the file says of the other cells."""
    known = {each.path: each for each in plant.cells}
    return {path: normals_for(data, known[path]) for path in (cells_of(data) if data else ()) if path != besides}


def _tell(found: Sequence[Normal], before: dict[str, float]) -> None:
    for normal in found:
        rows = tuple(_row(tag, before) for tag in normal.tags)
        print(aligned(Shown(f"group {normal.normal.group}: {normal.rows} rows", HEADS, rows, "")))
        for name in normal.left_out:
            print(f"  {name}: too few good values, it will warm up when the agent runs")
        for tag in normal.tags:
            _tell_tag(tag)


def _row(tag: TagNormal, before: dict[str, float]) -> tuple[str, ...]:
    rejected = sum(tag.rejected.values())
    was = before.get(tag.tag)
    return (
        tag.tag,
        tag.unit,
        str(tag.used),
        str(rejected),
        f"{tag.centre:.6g}",
        f"{tag.spread:.3g}",
        f"{tag.autocorrelation_s:.3g}",
        f"{tag.false_per_day:.3g}",
        f"{tag.days:.3g}",
        f"{tag.widen:.2f}",
        "-" if was is None else f"{was:.2f}",
    )


def _tell_tag(tag: TagNormal) -> None:
    reasons = [f"{count} {reason}" for reason, count in tag.rejected.items() if count]
    if reasons:
        print(f"  {tag.tag}: rejected: {'; '.join(reasons)}")
    if tag.remark:
        print(f"  {tag.tag}: {tag.remark}")
    for stretch in tag.suspicious[:STRETCHES_MAX]:
        span = f"{clock_text(stretch.from_at)} to {clock_text(stretch.until_at)}"
        print(f"  {tag.tag}: suspicious, set aside: {span}, up to {stretch.peak_z:.1f} spreads from normal")
    if (left := len(tag.suspicious) - STRETCHES_MAX) > 0:
        print(f"  {tag.tag}: {left} more suspicious stretches")
