"""A made-up plant of wide cells and its input, as large as one likes: every tag has a sample in every row.

Each tag has noise around a level of its own. Behind the warm-up something is wrong with one tag of a cell at a time:
a shift, a value beyond its hard limit, a sensor that repeats itself, bad quality; each for `FAULT_ROWS`, then normal
again, each cell in its own turn. So every detector has episodes to open and to clear, as many per row as in a plant
that mostly works.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from connectors.kafka.codec import Message, encode_message, tag_table_sha256
from schemas.plant import Asset, Cell, Group, Limits, Range, Tag
from schemas.samples import STATUS_BAD, Input, LineEvent, SampleBatch, Tick
from schemas.settings import KafkaSettings
from schemas.topics import partition_of

DEMO = Path(__file__).parents[2] / "connectors/plant/config"
T0, S = 1_790_000_000_000_000, 1_000_000
BATCH = 1000
"""Samples of one message."""
WARM_UP_ROWS = 30
FAULT_ROWS = 12
LIMITED = 20
"""One tag in so many has a hard limit."""
SOURCE = "opcua:bench"
EXECUTE = 6


@dataclass(frozen=True, slots=True)
class Load:
    """How much of what."""

    tags: int
    """Of one cell."""
    cells: int
    rows: int
    """Of one cell, the warm-up among them."""
    rows_per_s: int = 1
    """Of plant time; with few tags more, so that a second has a batch of `BATCH` samples at least."""
    fault_every_rows: int = 40

    @property
    def samples(self) -> int:
        """All of them."""
        return self.tags * self.cells * self.rows

    @property
    def ticks(self) -> int:
        """Of one cell: one a second of plant time."""
        return self.rows // self.rows_per_s

    @property
    def warm_ticks(self) -> int:
        """Of one cell, until everything is learnt and the first faults are over."""
        return -(-(WARM_UP_ROWS + self.fault_every_rows) // self.rows_per_s) + 3


def cells_of(load: Load, partitions: int) -> list[Cell]:
    """Return the cells, each in a partition of its own as long as there are enough."""
    paths: list[str] = []
    taken: set[int] = set()
    number = 0
    while len(paths) < load.cells:
        path = f"jidoka/bench/assembly/line1/wide{number}"
        number += 1
        if (at := partition_of(path, partitions)) not in taken or len(taken) == partitions:
            taken.add(at)
            paths.append(path)
    return [_cell(load, path, first=1000 + k * load.tags) for k, path in enumerate(paths)]


def _cell(load: Load, path: str, first: int) -> Cell:
    return Cell.model_construct(
        id=path.rsplit("/", 1)[1], path=path, namespace="urn:bench", lateness_s=0.0, state_node="/State",
        assets=(Asset(id="a", title="A"),),
        groups=(Group(id="g", period_s=1 / load.rows_per_s, warm_up_rows=WARM_UP_ROWS),),
        tags=tuple(
            Tag(id=first + k, name=f"t{k}_n", asset="a", node=f"/t{k}", unit="N", range=Range(low=-1000, high=1000),
                group="g", limits=Limits(high=level_of(k) + 100) if k % LIMITED == 0 else None)
            for k in range(load.tags)
        ),
    )  # fmt: skip


def level_of(tag: int) -> float:
    """Return around what a tag's values lie."""
    return 10.0 + tag % 50


def configure(folder: Path, cells: Sequence[Cell], settings: KafkaSettings) -> None:
    """Write a configuration: the demo's, with these cells beside the demo's, and this broker."""
    shutil.copytree(DEMO, folder)
    with (folder / "plant.toml").open("a", encoding="utf-8") as plant:
        for cell in cells:
            plant.write(_as_toml(cell))
    with (folder / "jidoka.toml").open("a", encoding="utf-8") as file:
        file.write(
            f'\n[kafka]\nbootstrap = ["{settings.bootstrap[0]}"]\npartitions = {settings.partitions}\n'
            f"session_s = {settings.session_s}\n"
        )


def _as_toml(cell: Cell) -> str:
    group = cell.groups[0]
    head = f"""
[[cells]]
id = "{cell.id}"
path = "{cell.path}"
namespace = "{cell.namespace}"
lateness_s = 0.0
state_node = "/State"
assets = [{{ id = "a", title = "A" }}]
groups = [{{ id = "g", period_s = {group.period_s!r}, warm_up_rows = {group.warm_up_rows} }}]
tags = [
"""
    tags = "".join(
        f'{{ id = {t.id}, name = "{t.name}", asset = "a", node = "{t.node}", unit = "N", group = "g", '
        f"range = {{ low = -1000, high = 1000 }}"
        + (f", limits = {{ high = {t.limits.high!r} }}" if t.limits is not None else "")
        + " },\n"
        for t in cell.tags
    )
    return f"{head}{tags}]\n"


def messages(cell: Cell, load: Load, *, seed: int = 0) -> Iterator[Message]:
    """Yield all messages of a cell in order: PackML EXECUTE, then per second its batches and a tick."""
    tags_sha256 = tag_table_sha256(cell)
    for seq, (at, item) in enumerate(_inputs(cell, load, np.random.default_rng(seed))):
        yield encode_message(cell.path, at, numbered(item, seq), tags_sha256)


def _inputs(cell: Cell, load: Load, random: np.random.Generator) -> Iterator[tuple[int, Input]]:
    yield T0, LineEvent(SOURCE, 1, 0, "packml.state", T0 - S, EXECUTE)
    yield T0, Tick(SOURCE, 1, 0, T0, True)
    plant = Made(cell, load, random)
    for second in range(load.ticks):
        now = T0 + (second + 1) * S
        for batch in plant.second(second):
            yield now, batch
        yield now, Tick(SOURCE, 1, 0, now, True)


class Made:
    """The samples of one cell, second by second."""

    def __init__(self, cell: Cell, load: Load, random: np.random.Generator) -> None:
        self._load, self._random = load, random
        self._tags = np.array([tag.id for tag in cell.tags], dtype=np.uint32)
        self._phase = int(random.integers(load.fault_every_rows))
        self._levels = np.array([level_of(k) for k in range(load.tags)])
        self._period_us = S // load.rows_per_s

    def second(self, number: int) -> Iterator[SampleBatch]:
        """Yield the batches of one second, row after row, the last one with what remains."""
        first = number * self._load.rows_per_s
        rows = range(first, first + self._load.rows_per_s)
        value, status = (np.concatenate(each) for each in zip(*(self._row(row) for row in rows), strict=True))
        tag = np.tile(self._tags, len(rows))
        end_at = T0 + (np.array(rows, dtype=np.int64) + 1) * self._period_us
        at = np.repeat(end_at, self._load.tags)
        for cut in (slice(k, k + BATCH) for k in range(0, len(tag), BATCH)):
            yield SampleBatch(SOURCE, 1, 0, tag[cut], at[cut], at[cut] + 500, value[cut], status[cut])

    def _row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        value = self._levels + self._random.standard_normal(self._load.tags)
        status = np.zeros(self._load.tags, dtype=np.uint32)
        every = self._load.fault_every_rows
        fault, since = divmod(row - WARM_UP_ROWS + self._phase, every)
        if row >= WARM_UP_ROWS and every - since <= FAULT_ROWS:
            tag = fault * LIMITED % self._load.tags
            match fault % 4:
                case 0:
                    value[tag] += 30.0
                case 1:
                    value[tag] += 150.0
                case 2:
                    value[tag] = self._levels[tag]
                case _:
                    status[tag] = STATUS_BAD
        return value, status


def numbered(item: Input, seq: int) -> Input:
    """Return the input with its number."""
    if isinstance(item, SampleBatch):
        columns = (item.tag, item.source_at, item.server_at, item.value, item.status)
        return SampleBatch(item.source, item.epoch, seq, *columns)
    return replace(item, seq=seq)
