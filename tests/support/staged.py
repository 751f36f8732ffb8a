"""A small cell's messages on a partition: what the tests of the stages share."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from agent.guard.question import Rulebook
from connectors.kafka.codec import Message, encode_message, tag_table_sha256
from schemas.catalogue import Catalogue
from schemas.errors import Fenced
from schemas.policy import Policy
from schemas.records import SavedState
from schemas.samples import Control, Gap, Kept, LineEvent, SampleBatch, Tick
from tests.feeding import Feeder, small_cell

CELL = small_cell()
RULES = Rulebook(CELL, Catalogue(actions=()), Policy())


def story(cycles: int = 60) -> list[Kept]:
    """Healthy cycles, then a shift of the force: numbered as one source numbers them."""
    feeder = Feeder(small_cell())
    feeder.cycles(cycles // 2)
    feeder.cycles(cycles - cycles // 2, force=25.0)
    return [Kept(n, kept.at_us, numbered(kept, n - 1)) for n, kept in enumerate(feeder.kept, 1)]


def numbered(kept: Kept, seq: int, epoch: int = 1) -> SampleBatch | LineEvent | Gap | Tick | Control:
    """The input with its number within the source."""
    if isinstance(kept.input, SampleBatch):
        return replace(kept.input, epoch=epoch, seq=seq)
    return msgspec.structs.replace(kept.input, epoch=epoch, seq=seq)


def message(kept: Kept, *, tags: str = "") -> Message:
    """The input as it lies on `telemetry.v1`."""
    return encode_message(CELL.path, kept.at_us, kept.input, tags or tag_table_sha256(CELL))


class MemoryStates:
    """Saved states in memory, with the same fence as the real ones."""

    def __init__(self) -> None:
        self.saved: dict[str, SavedState] = {}

    async def load(self, cell: str) -> SavedState | None:
        return self.saved.get(cell)

    async def save(self, cell: str, state: SavedState, *, expected: int) -> None:
        stored = self.saved[cell].position if cell in self.saved else 0
        if stored != expected:
            raise Fenced(f"{cell}: {stored} is stored, not {expected}")
        self.saved[cell] = state


def poisoned(rng: np.random.Generator, good: Message) -> Message:
    """A message of which something is not as it was."""
    kind = int(rng.integers(4))
    if kind == 0:
        return Message(good.key, good.value[: len(good.value) // 2], good.headers)
    if kind == 1:
        return Message(good.key, rng.bytes(40), good.headers)
    if kind == 2:
        return Message(good.key, good.value, good.headers[:-3])
    return Message(rng.bytes(5), good.value, good.headers)
