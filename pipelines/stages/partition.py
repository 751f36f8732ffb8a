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
from pipelines.stages.sequence import Counts
from schemas.errors import CodecError
from schemas.facts import LineStateChanged
from schemas.records import SavedState

UNKNOWN_MAX = 1_000
"""Cells that are not configured and are told of; more are only counted."""


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
        last_given: Callable[[str], Awaitable[int]],
        warn: Callable[[str], None],
        end: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Begin with nothing taken.

        Args:
            rules: By cell path.
            states: Where the cells' states are.
            snapshot_bytes: See `CellStage`.
            snapshot_us: Agent time between two saves.
            last_given: Returns the position of a cell's last observation on the topic, 0 if there is none: numbers go
                on behind it where there is no state.
            warn: Told what a person should know.
            end: Returns the offset behind the newest message of the partition; None: that is not known.
        """
        self.next_offset = 0
        """Behind the last message that was taken."""
        self.committed = 0
        """Up to where it was safe at the last save."""
        self.passed_over = 0
        """Messages of cells that are not configured."""
        self._rules, self._states, self._warn, self._last_given = rules, states, warn, last_given
        self._end = end
        self._unknown: set[str] = set()
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
            CodecError: it cannot be read, or is not numbered as this cell is. It counts as taken.
        """
        if offset < self.next_offset:
            return []
        self.next_offset = offset + 1
        arrived = decode_message(key, value, headers)
        if arrived.cell not in self._rules:
            self._pass_over(arrived.cell)
            return []
        if (stage := self._stages.get(arrived.cell)) is None:
            stage = self._stages[arrived.cell] = await self._stage(arrived.cell)
        if offset <= stage.offset:
            return []
        self._dirty.add(arrived.cell)
        seen = stage.take(offset, arrived, len(value or b""))
        self._at_us = max(self._at_us, arrived.at)
        self._saved_at_us = self._saved_at_us or self._at_us
        observations = [s.observation for s in seen if s.observation is not None]
        self._due |= any(isinstance(fact, LineStateChanged) for o in observations for fact in o.facts)
        return seen

    def _pass_over(self, cell: str) -> None:
        """Count a message of a cell that is not ours; the topic keeps it for who knows the cell.

        Raises:
            CodecError: it is the first one of its cell: one letter tells of all.
        """
        self.passed_over += 1
        if cell not in self._unknown and len(self._unknown) < UNKNOWN_MAX:
            self._unknown.add(cell)
            raise CodecError(f"{cell}: not in plant.toml: its messages are passed over, and only the first is told")

    async def _stage(self, cell: str) -> CellStage:
        saved = await self._states.load(cell)
        position = await self._last_given(cell) if saved is None else 0
        stage = CellStage(self._rules[cell], snapshot_bytes=self._snapshot_bytes, position=position)
        if saved is None:
            return stage
        if cold := stage.load(saved):
            self._warn(f"{cell}: the detectors begin anew behind input {saved.position}: {cold}")
        end = self._end()
        if end is not None and saved.offset >= end:
            # Otherwise all of its messages would count as taken. The sources' own numbers tell which were.
            self._warn(
                f"{cell}: saved at message {saved.offset}, and the topic ends at {end}: it was made anew, or cut"
            )
            stage.offset = -1
        return stage

    @property
    def counts(self) -> dict[str, Counts]:
        """What was put right, by cell."""
        return {cell: stage.sequence.counts for cell, stage in self._stages.items()}

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
