"""One partition of `telemetry.v1` in the hands of one worker: its cells' stages, and how far all of it is safe.

The order of safety: observations acknowledged by the broker, then the states saved, then the offset committed. So a
worker that takes over finds states that are at most as far as what was given out, and gives the rest once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from agent.guard.question import Rulebook
from connectors.kafka.codec import decode_message
from pipelines.detection import Seen
from pipelines.stages.cell_stage import CellStage
from schemas.errors import CodecError
from schemas.facts import LineStateChanged
from schemas.records import SavedState

POSITIONS_PER_OFFSET = 2
"""A cell's inputs are at most its messages and one gap told for each: from there on numbers are certainly new."""


class StateStore(Protocol):
    """Where detectors' states lie."""

    async def load(self, cell: str) -> SavedState | None:
        """Return the last state that was saved."""

    async def save(self, cell: str, state: SavedState, *, expected: int) -> None:
        """Save in place of the one at position `expected`, 0 for none.

        Raises:
            Fenced: it is another one by now.
        """


class Partition:
    """The cells of one partition."""

    def __init__(
        self,
        rules: Mapping[str, Rulebook],
        states: StateStore,
        *,
        snapshot_bytes: int,
        snapshot_us: int,
        warn: Callable[[str], None],
    ) -> None:
        self.next_offset = 0
        """Behind the last message that was taken."""
        self.committed = 0
        """Up to where it was safe at the last save."""
        self._rules, self._states, self._warn = rules, states, warn
        self._snapshot_bytes, self._snapshot_us = snapshot_bytes, snapshot_us
        self._stages: dict[str, CellStage] = {}
        self._dirty: set[str] = set()
        self._saved_at_us = self._at_us = 0
        self._due = False

    async def take(
        self,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...],
    ) -> list[Seen]:
        """Take the next message; return what it came to. Messages that were taken before give nothing.

        Raises:
            CodecError: it is no message of a cell that we know. It counts as taken.
        """
        if offset < self.next_offset:
            return []
        self.next_offset = offset + 1
        arrived = decode_message(key, value, headers)
        if (stage := self._stages.get(arrived.cell)) is None:
            stage = self._stages[arrived.cell] = await self._stage(arrived.cell, offset)
        if offset <= stage.offset:
            return []
        self._dirty.add(arrived.cell)
        seen = stage.take(offset, arrived, len(value or b""))
        self._at_us = max(self._at_us, arrived.at)
        self._saved_at_us = self._saved_at_us or self._at_us
        observations = [s.observation for s in seen if s.observation is not None]
        self._due |= any(isinstance(fact, LineStateChanged) for o in observations for fact in o.facts)
        return seen

    async def _stage(self, cell: str, offset: int) -> CellStage:
        rules = self._rules.get(cell)
        if rules is None:
            raise CodecError(f"plant.toml has no cell {cell}")
        saved = await self._states.load(cell)
        stage = CellStage(
            rules, snapshot_bytes=self._snapshot_bytes, position=POSITIONS_PER_OFFSET * offset if saved is None else 0
        )
        if saved is not None and (cold := stage.load(saved)):
            self._warn(f"{cell}: the detectors begin anew behind input {saved.position}: {cold}")
        return stage

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self._due or self._at_us - self._saved_at_us >= self._snapshot_us

    @property
    def dirty(self) -> bool:
        """Whether anything was taken that is not safe."""
        return self.next_offset > self.committed

    async def save(self, acknowledged: Callable[[], Awaitable[None]]) -> int:
        """Make everything that was taken safe; return the offset that may be committed.

        Args:
            acknowledged: Returns when all that was given out is acknowledged.

        Raises:
            Fenced: another worker has the partition.
        """
        await acknowledged()
        for cell in sorted(self._dirty):
            stage = self._stages[cell]
            state = stage.save()
            await self._states.save(cell, state, expected=stage.saved_position)
            stage.saved_position = state.position
        self._dirty.clear()
        self._due, self._saved_at_us, self.committed = False, self._at_us, self.next_offset
        return self.committed
