"""A recording as the ordered input of a cell: batches, ticks with the watermark, and gaps where the file jumps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.recordings.table import Recording, read
from schemas.errors import RecordingError
from schemas.plant import Cell
from schemas.recording import RecordingMapping
from schemas.samples import STATUS_BAD, STATUS_GOOD, Gap, Input, SampleBatch, Tick


def play(path: Path, mapping: RecordingMapping, cell: Cell) -> Iterator[Input]:
    """Read a file and yield it as input.

    Raises:
        RecordingError: see `connectors.recordings.table.read`; or a mapped tag that the cell does not have.
    """
    tags = {tag.name: tag.id for tag in cell.tags if tag.minus is None}
    for column in mapping.columns:
        if column.tag not in tags:
            raise RecordingError(
                str(path), f"column {column.column!r}", f"the cell has no tag {column.tag!r}", "Correct the mapping"
            )
    ids = np.array([tags[column.tag] for column in mapping.columns], dtype=np.uint32)
    return inputs(read(path, mapping), mapping, cell, ids)


def inputs(recording: Recording, mapping: RecordingMapping, cell: Cell, ids: NDArray[np.uint32]) -> Iterator[Input]:
    """Yield a recording that was read. The first tick comes before the first sample, so that its row is whole."""
    source, at, seq = f"recording:{Path(recording.file).name}", recording.at, 0
    yield Tick(source, 1, seq, int(at[0]) - 1, alive=True)
    steps = np.diff(at)
    gap_us = mapping.gap_factor * float(np.median(steps)) if len(steps) else np.inf
    jumps = (np.flatnonzero(steps > gap_us) + 1).tolist()
    for first, last in _chunks(len(at), jumps, mapping.rows_per_batch):
        if first in jumps:
            seq += 1
            yield Gap(source, 1, seq, (), int(at[first - 1]), int(at[first]), "the recording has no rows")
        yield _batch(recording, ids, source, seq + 1, first, last)
        seq += 2
        yield Tick(source, 1, seq, int(at[last - 1]), alive=True)
    period_s = max((group.period_s or 0.0 for group in cell.groups), default=0.0)
    # Far enough to close the row in which the last sample lies, and not one more.
    end_at = int(at[-1]) + int((cell.lateness_s + period_s) * 1e6) - 1
    yield Tick(source, 1, seq + 1, end_at, alive=True)


def _chunks(rows: int, jumps: list[int], size: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of batches that do not reach over a jump."""
    edges = [0, *jumps, rows]
    for begin, end in pairwise(edges):
        for first in range(begin, end, size):
            yield first, min(first + size, end)


def _batch(recording: Recording, ids: NDArray[np.uint32], source: str, seq: int, first: int, last: int) -> SampleBatch:
    value = recording.values[first:last].reshape(-1)
    at = np.repeat(recording.at[first:last], len(ids))
    status = np.where(np.isfinite(value), np.uint32(STATUS_GOOD), np.uint32(STATUS_BAD))
    return SampleBatch(source, 1, seq, np.tile(ids, last - first), at, at, value, status)
