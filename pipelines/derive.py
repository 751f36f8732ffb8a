"""What follows from the input and the facts of one cell: detectors, verifier and step in one order. Pure.

The live service and replay run this same object; they differ in who feeds it and in what becomes of the wishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from agent.cell import CellState, apply
from agent.effects import Effect
from agent.guard.question import Rulebook
from agent.step import step
from pipelines.detectors.suite import Suite
from pipelines.verifier import Verifier, decode_memory
from schemas.errors import CodecError
from schemas.facts import AgentStarted, AnomalyCleared, AnyFact, Detected, TagsRebaselined
from schemas.samples import Control, Kept


@dataclass(slots=True)
class Derived:
    """What one message led to: facts in the order in which they are appended, new wishes, and blobs they name."""

    facts: list[AnyFact] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    blobs: Mapping[str, bytes] = field(default_factory=dict)


class Snapshotted(msgspec.Struct, frozen=True):
    """A derivation's memory beside the log: detectors and watches."""

    suite: bytes
    watches: bytes


class Derivation:
    """Detectors, verifier and agent of one cell."""

    def __init__(self, rules: Rulebook) -> None:
        self.rules = rules
        self.state = CellState(rules.cell.path)
        self.suite = Suite(rules.cell)
        self.verifier = Verifier(rules.cell, rules.catalogue)
        self._tag_names = {tag.id: tag.name for tag in rules.cell.tags}

    def feed_input(self, kept: Kept) -> Derived:
        """Return what follows from the next input of the cell's order."""
        fed = self.suite.feed(kept)
        derived = Derived(blobs=fed.blobs)
        found: list[Detected] = [*self._told(kept), *fed.facts]
        for fact in found:
            self._step(fact, derived)
        for result in self.verifier.feed(fed.rows, kept.at_us, self.state):
            self._step(result, derived)
        return derived

    def feed_fact(self, fact: AnyFact) -> Derived:
        """Return `fact` and what follows from it."""
        derived = Derived()
        self._step(fact, derived)
        if isinstance(fact, AgentStarted):
            self._forget(fact.at, derived)
        return derived

    def _forget(self, at: int, derived: Derived) -> None:
        """End what the detectors no longer know, after a start with another configuration or without their memory."""
        known = {episode.episode_id for episode in self.suite.episodes.open.values()}
        for episode_id in [e for e in self.state.episodes if e not in known]:
            self._step(AnomalyCleared(at=at, episode_id=episode_id, reason="forgotten"), derived)

    def fold(self, fact: AnyFact) -> None:
        """Take a recorded fact as it stands, without concluding anything."""
        self.state = apply(self.state, fact)
        self.verifier.follow(self.state)

    def fold_state(self, fact: AnyFact) -> None:
        """Take a recorded fact into the state alone: for what lies before a snapshot that will be restored."""
        self.state = apply(self.state, fact)

    def rebuild(self, kept: Kept) -> None:
        """Let detectors and verifier see an input again whose facts are on record."""
        fed = self.suite.feed(kept)
        self.verifier.feed(fed.rows, kept.at_us, self.state)

    def _step(self, fact: AnyFact, derived: Derived) -> None:
        stepped = step(self.state, fact, self.rules)
        self.state = stepped.state
        self.verifier.follow(self.state)
        derived.facts += [fact, *stepped.facts]
        derived.effects += stepped.effects

    def _told(self, kept: Kept) -> list[Detected]:
        control = kept.input
        if not (isinstance(control, Control) and control.kind == "rebaseline"):
            return []
        names = tuple(self._tag_names.get(tag, f"unknown_{tag}") for tag in control.tags)
        return [TagsRebaselined(at=kept.at_us, cause_id=control.text, tags=names)]

    def snapshot(self) -> bytes:
        """Return the memory that the log does not hold."""
        watches = msgspec.msgpack.encode(self.verifier.snapshot())
        return msgspec.msgpack.encode(Snapshotted(self.suite.snapshot(), watches))

    def restore(self, data: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            CodecError: it is something else, or of another version.
        """
        try:
            snapshotted = msgspec.msgpack.decode(data, type=Snapshotted)
        except msgspec.DecodeError as error:
            raise CodecError(f"not a derivation snapshot: {error}") from error
        self.suite.restore(snapshotted.suite)
        self.verifier.restore(decode_memory(snapshotted.watches))
