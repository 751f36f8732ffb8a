"""What follows from the input and the facts of one cell: detection, verifier and step in one order. Pure.

The live service and replay run this same object; they differ in who feeds it and in what becomes of the wishes. On
Kafka detection runs elsewhere, and its observations are fed in place of the input.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from agent.cell import CellState, apply
from agent.effects import Effect
from agent.guard.question import Rulebook
from agent.step import step
from pipelines.detection import Detection
from pipelines.verifier import Verifier, decode_memory
from schemas.errors import CodecError
from schemas.facts import AgentStarted, AnomalyCleared, AnyFact
from schemas.observations import Delivered, Observation
from schemas.samples import Kept

Item = Kept | Delivered
"""The next of a cell's order: an input, or what detection elsewhere said of one."""


@dataclass(slots=True)
class Derived:
    """What one message led to: facts in the order in which they are appended, new wishes, and blobs they name."""

    facts: list[AnyFact] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    blobs: Mapping[str, bytes] = field(default_factory=dict)


class Snapshotted(msgspec.Struct, frozen=True):
    """A derivation's memory beside the log: detectors and watches."""

    detection: bytes
    watches: bytes


class Derivation:
    """Detection, verifier and agent of one cell."""

    def __init__(self, rules: Rulebook) -> None:
        self.rules = rules
        self.state = CellState(rules.cell.path)
        self.detection = Detection(rules)
        self.verifier = Verifier(rules.cell, rules.catalogue)

    def feed(self, item: Item) -> Derived:
        """Return what follows from the next input of the cell's order, or from what detection said of it."""
        if isinstance(item, Delivered):
            return self._conclude(item.observation, Derived())
        seen = self.detection.feed(item)
        derived = Derived(blobs=seen.blobs)
        return derived if seen.observation is None else self._conclude(seen.observation, derived)

    def _conclude(self, observation: Observation, derived: Derived) -> Derived:
        for fact in observation.facts:
            self._step(fact, derived)
        if observation.tick:
            for result in self.verifier.feed(observation.rows, observation.at, self.state):
                self._step(result, derived)
        return derived

    def feed_fact(self, fact: AnyFact, *, known: Collection[str] | None = None) -> Derived:
        """Return `fact` and what follows from it.

        Args:
            fact: From outside.
            known: For `agent.started/1`: the episodes that detection still knows; None: ask our own detection.
        """
        derived = Derived()
        self._step(fact, derived)
        if isinstance(fact, AgentStarted):
            self._forget(fact.at, self.detection.open_episodes if known is None else known, derived)
        return derived

    def _forget(self, at: int, known: Collection[str], derived: Derived) -> None:
        """End what detection no longer knows, after a start with another configuration or without its memory."""
        for episode_id in [e for e in self.state.episodes if e not in known]:
            self._step(AnomalyCleared(at=at, episode_id=episode_id, reason="forgotten"), derived)

    def fold(self, fact: AnyFact) -> None:
        """Take a recorded fact as it stands, without concluding anything."""
        self.state = apply(self.state, fact)
        self.verifier.follow(self.state)

    def fold_state(self, fact: AnyFact) -> None:
        """Take a recorded fact into the state alone: for what lies before a snapshot that will be restored."""
        self.state = apply(self.state, fact)

    def rebuild(self, item: Item) -> None:
        """Let detectors and verifier see again what has its facts on record."""
        observation = item.observation if isinstance(item, Delivered) else self.detection.feed(item).observation
        if observation is not None and observation.tick:
            self.verifier.feed(observation.rows, observation.at, self.state)

    def _step(self, fact: AnyFact, derived: Derived) -> None:
        stepped = step(self.state, fact, self.rules)
        self.state = stepped.state
        self.verifier.follow(self.state)
        derived.facts += [fact, *stepped.facts]
        derived.effects += stepped.effects

    def snapshot(self) -> bytes:
        """Return the memory that the log does not hold."""
        return self.snapshot_with(self.detection.snapshot())

    def snapshot_with(self, detection: bytes) -> bytes:
        """Return the memory that the log does not hold, with the memory of a detection that runs elsewhere."""
        watches = msgspec.msgpack.encode(self.verifier.snapshot())
        return msgspec.msgpack.encode(Snapshotted(detection, watches))

    def restore(self, data: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            CodecError: it is something else, or of another version.
        """
        try:
            snapshotted = msgspec.msgpack.decode(data, type=Snapshotted)
        except msgspec.DecodeError as error:
            raise CodecError(f"not a derivation snapshot: {error}") from error
        self.detection.restore(snapshotted.detection)
        self.verifier.restore(decode_memory(snapshotted.watches))
