"""Detection of one cell as a stage on a topic: messages of its partition in, observations out. Pure.

All that it gives follows from what it was given, to the bit: two workers that read the same partition from the same
saved state give the same observations, so that a repeated one is told by its position.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from agent.guard.question import Rulebook
from connectors.kafka.codec import Arrived, tag_table_sha256
from pipelines.detection import Detection, Seen
from pipelines.stages.sequence import Sequence
from pipelines.stages.sequence_memory import SequenceMemory, recall, remember
from schemas.errors import CodecError
from schemas.records import SavedState
from schemas.samples import Kept, Tick

VERSION = 1
"""Of the saved state; raise it with every change."""


class Memory(msgspec.Struct, frozen=True):
    """A saved state."""

    version: int
    sequence: SequenceMemory
    detection: bytes
    bytes_n: int


def sequence_of(saved: SavedState) -> SequenceMemory:
    """Return how far the cell's messages were put in order in a saved state.

    Raises:
        CodecError: it is none of this version.
    """
    return _memory(saved).sequence


def _memory(saved: SavedState) -> Memory:
    try:
        memory = msgspec.msgpack.decode(saved.data, type=Memory)
    except msgspec.DecodeError as error:
        raise CodecError(f"not a saved state: {error}") from error
    if memory.version != VERSION:
        raise CodecError(f"a saved state of version {memory.version}, this program reads {VERSION}")
    return memory


class CellStage:
    """One cell."""

    def __init__(self, rules: Rulebook, *, snapshot_bytes: int, position: int = 0) -> None:
        """Begin with nothing learnt.

        Args:
            rules: Of the cell.
            snapshot_bytes: Input after which the memory is handed on for replay, with the next tick.
            position: Behind which the cell's inputs are numbered.
        """
        self.offset = -1
        """Of the last message that was taken."""
        self.saved_position = 0
        """What the state store holds."""
        self.tags_sha256 = tag_table_sha256(rules.cell)
        self._rules, self._snapshot_bytes, self._bytes_n = rules, snapshot_bytes, 0
        self._detection = Detection(rules)
        self.sequence = Sequence(position)

    def take(self, offset: int, arrived: Arrived, bytes_n: int) -> list[Seen]:
        """Take the next message of the cell; return what its inputs came to.

        Args:
            offset: Of the message in its partition; higher than any before.
            arrived: The message.
            bytes_n: Its size.

        Raises:
            CodecError: the collector numbers the tags by another table: its samples are somebody else's.
        """
        self.offset = offset
        if arrived.tags_sha256 != self.tags_sha256:
            raise CodecError(
                f"{arrived.cell}: the collector numbers tags by another plant.toml ({arrived.tags_sha256[:12]}, here "
                f"{self.tags_sha256[:12]}): give both the same file and start them again"
            )
        self._bytes_n += bytes_n
        return [self._feed(kept) for kept in self.sequence.take(arrived.at, arrived.input)]

    def _feed(self, kept: Kept) -> Seen:
        seen = self._detection.feed(kept)
        if self._bytes_n < self._snapshot_bytes or seen.observation is None or not isinstance(kept.input, Tick):
            return seen
        self._bytes_n = 0
        data = self._detection.snapshot()
        sha256 = hashlib.sha256(data).hexdigest()
        observation = msgspec.structs.replace(seen.observation, snapshot=sha256)
        return replace(seen, observation=observation, blobs={**seen.blobs, sha256: data})

    def save(self) -> SavedState:
        """Return all that must be there to go on behind the last message."""
        sequence = remember(self.sequence, self._rules.cell.path, self.tags_sha256)
        memory = Memory(VERSION, sequence, self._detection.snapshot(), self._bytes_n)
        return SavedState(self.sequence.position, self.offset, msgspec.msgpack.encode(memory))

    def load(self, saved: SavedState) -> str:
        """Go on from a saved state.

        Returns:
            Why the detectors begin anew behind it all the same; empty if they go on.
        """
        self.offset, self.saved_position = saved.offset, saved.position
        self.sequence = Sequence(saved.position)
        try:
            memory = _memory(saved)
            self.sequence, self._bytes_n = recall(memory.sequence), memory.bytes_n
            self._detection.restore(memory.detection)
        except CodecError as error:
            self._detection = Detection(self._rules)
            return str(error)
        return ""
