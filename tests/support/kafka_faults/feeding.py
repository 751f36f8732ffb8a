"""A collector process under load: the product's own (spool, syncer, forwarder), over simulated cells that are quick.

    python -m tests.support.kafka_faults.feeding FOLDER SEED

Every batch bears one sample more, of a tag that no cell has: its value is the number of samples before it. So whoever
has the batches of a cell in order can tell that all are there, and each once. On stdout it says how far it is synced.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from connectors.clock import VirtualClock
from connectors.plant.direct import DirectPlant
from pipelines.collect import collecting_cells
from pipelines.commands.run import until_told
from pipelines.config import load
from pipelines.hosting import clock_of
from schemas.plant import Cell
from schemas.samples import Input, SampleBatch
from tests.support.quick_plant import QuickCell

MARK_TAG = 4_000_000_000
SAY_S = 0.05
PACE_S = 0.005
HEALTHY_S, OILY_S = 12.0, 6.0
"""Plant time between two faults, and with one: episodes open and clear all the time."""


def marked(batch: SampleBatch, number: int) -> SampleBatch:
    """Return the batch with the sample that numbers it."""
    at = int(batch.source_at[-1])
    return replace(
        batch,
        tag=np.append(batch.tag, np.uint32(MARK_TAG)),
        source_at=np.append(batch.source_at, np.int64(at)),
        server_at=np.append(batch.server_at, np.int64(at)),
        value=np.append(batch.value, np.float64(number)),
        status=np.append(batch.status, np.uint32(0)),
    )


class QuickSource:
    """A simulated cell that breaks now and then, at the pace of the agent's clock."""

    def __init__(self, cell: Cell, clock: object, seed: int) -> None:
        self.count, self._clock = 0, clock
        self._plant = DirectPlant(cell, seed, VirtualClock(clock.now_us()))  # type: ignore[attr-defined]
        self._plant.station.cell = QuickCell()
        self._random = np.random.default_rng(seed)

    async def run(self, sink: Callable[[Input], Awaitable[None]]) -> None:
        station, oily = self._plant.station, False
        change_us = self._plant.clock.now_us() + int(HEALTHY_S * 1e6)
        for step in self._plant.steps():
            while self._clock.now_us() < step.at_us:  # type: ignore[attr-defined]
                await asyncio.sleep(PACE_S)
            for item in step.inputs:
                if isinstance(item, SampleBatch):
                    item = marked(item, self.count)
                    self.count += len(item)
                await sink(item)
            if step.at_us >= change_us:
                oily = not oily
                if oily:
                    station.inject("oil_on_pads", 1.0)
                else:
                    station.clear_faults()
                change_us = step.at_us + int((OILY_S if oily else HEALTHY_S) * self._random.uniform(0.7, 1.3) * 1e6)


async def feed(folder: Path, seed: int) -> None:
    """Collect all cells of a configuration until told to end, and say how far the spool is synced."""
    configuration = load(folder)
    kafka, clock, cells = configuration.settings.kafka, clock_of(configuration.settings), configuration.plant.cells
    assert kafka is not None
    sources: dict[str, QuickSource] = {}

    def make(cell: Cell, epoch: int) -> QuickSource:
        return sources.setdefault(cell.path, QuickSource(cell, clock, seed * 1000 + len(sources)))

    async with collecting_cells(
        configuration,
        cells,
        kafka,
        partitions=kafka.partitions,
        bytes_max=kafka.spool_bytes_max,
        make_source=make,
    ) as collecting:
        while True:
            # Taken first, so that what it says is on the disk for sure.
            counts, position = {path: source.count for path, source in sources.items()}, collecting.spool.position
            while collecting.spool.synced < position:
                await asyncio.sleep(0.001)
            figures = collecting.figures(clock.now_us())
            said = {"synced": counts, "waiting": figures.unacknowledged_n, "lost": figures.lost_samples_n}
            print(json.dumps(said), flush=True)
            await asyncio.sleep(SAY_S)


if __name__ == "__main__":
    until_told(feed(Path(sys.argv[1]), int(sys.argv[2])))
