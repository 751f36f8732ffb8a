"""Our own simulated cell as a historian recorded it: a line for each machine cycle, columns named as tags."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from connectors.clock import VirtualClock
from connectors.plant.direct import DirectPlant
from schemas.plant import Cell
from schemas.samples import SampleBatch

T0_US = 1_772_366_400_000_000
"""2026-03-01 12:00 UTC."""


def record(path: Path, cell: Cell, cycles: int, faults: Mapping[int, Sequence[tuple[str, float]]], *, seed: int = 1):
    """Run the cell for some cycles and write what it latched; return the time of each line, microseconds.

    Args:
        path: A CSV file.
        cell: The simulated cell.
        cycles: Lines.
        faults: By cycle, (fault, severity) from then on; severity 0 takes one away.
    """
    clock = VirtualClock(T0_US)
    plant = DirectPlant(cell, seed, clock)
    latched = {tag.id: tag.name for tag in cell.tags if tag.group == "cycle" and tag.minus is None}
    values, lines, times, injected = {}, [], [], set()
    for step in plant.steps():
        for message in step.inputs:
            if not isinstance(message, SampleBatch):
                continue
            for tag, value in zip(message.tag.tolist(), message.value.tolist(), strict=True):
                values[latched.get(tag, "")] = value
        if values.get("cycle_count", 0) > len(lines) and len(values) > len(latched) - 1:
            times.append(step.at_us)
            moment = datetime.fromtimestamp(step.at_us / 1e6, UTC).isoformat()
            lines.append([moment, *(values[name] for name in latched.values())])
        if len(lines) in faults and len(lines) not in injected:
            injected.add(len(lines))
            for fault, severity in faults[len(lines)]:
                plant.station.inject(fault, severity)
        if len(lines) == cycles:
            break
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["timestamp", *latched.values()], *lines])
    return times
