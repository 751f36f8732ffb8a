"""Detection of one cell: from its ordered input to observations. Pure.

The first half of what follows from input (`pipelines.derive` has both). The embedded runtime runs the halves one after
the other in one process; on Kafka a worker runs this one, and the decision service the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from agent.guard.question import Rulebook
from pipelines.detectors.suite import Suite
from pipelines.features.row import Row
from schemas.errors import CodecError
from schemas.facts import Detected, TagsRebaselined
from schemas.observations import Observation, ObservedRow
from schemas.samples import Control, Kept, Tick


@dataclass(frozen=True, slots=True)
class Seen:
    """What one input came to."""

    observation: Observation | None = None
    """None: nothing that a decision depends on."""
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """By SHA-256: what facts name; to be made durable before the observation leaves."""


class Memory(msgspec.Struct, frozen=True):
    """What detection remembers."""

    suite: bytes
    after: int
    begun_at: int


class Detection:
    """The detectors of one cell, and the chain of its observations."""

    def __init__(self, rules: Rulebook) -> None:
        self.suite = Suite(rules.cell, calibration=rules.calibration)
        self._cell = rules.cell.path
        self._tag_names = {tag.id: tag.name for tag in rules.cell.tags}
        self._shown = _shown(rules)
        self._after = 0
        self._begun_at = 0

    def feed(self, kept: Kept) -> Seen:
        """Return what follows from the next input of the cell's order."""
        self._begun_at = self._begun_at or kept.at_us
        fed = self.suite.feed(kept)
        tick = isinstance(kept.input, Tick)
        facts = (*self._told(kept), *fed.facts)
        if not (facts or tick):
            return Seen(blobs=fed.blobs)
        observation = Observation(
            cell=self._cell,
            position=kept.position,
            after=self._after,
            at=kept.at_us,
            begun_at=self._begun_at,
            source=kept.input.source,
            tick=tick,
            facts=facts,
            rows=self._rows(fed.rows),
        )
        self._after = kept.position
        return Seen(observation, fed.blobs)

    @property
    def open_episodes(self) -> frozenset[str]:
        """Ids of the episodes that have not ended."""
        return frozenset(episode.episode_id for episode in self.suite.episodes.open.values())

    def _told(self, kept: Kept) -> list[Detected]:
        control = kept.input
        if not (isinstance(control, Control) and control.kind == "rebaseline"):
            return []
        names = tuple(self._tag_names.get(tag, f"unknown_{tag}") for tag in control.tags)
        return [TagsRebaselined(at=kept.at_us, cause_id=control.text, tags=names)]

    def _rows(self, rows: Sequence[Row]) -> tuple[ObservedRow, ...]:
        return tuple(
            ObservedRow(row.group, row.start_at, row.end_at, {tag: _or_none(row.value(tag)) for tag in tags})
            for row in rows
            if (tags := self._shown.get(row.group))
        )

    def snapshot(self) -> bytes:
        """Return the whole memory. Equal memories give equal bytes."""
        return msgspec.msgpack.encode(Memory(self.suite.snapshot(), self._after, self._begun_at))

    def restore(self, data: bytes) -> None:
        """Go back to a snapshot.

        Raises:
            CodecError: something else, of another version, or of another cell or configuration.
        """
        try:
            memory = msgspec.msgpack.decode(data, type=Memory)
        except msgspec.DecodeError as error:
            raise CodecError(f"not a snapshot of detection: {error}") from error
        self.suite.restore(memory.suite)
        self._after, self._begun_at = memory.after, memory.begun_at


def _shown(rules: Rulebook) -> dict[str, tuple[str, ...]]:
    """Return, by group, the tags that an effect is verified on."""
    group = {tag.name: tag.group for tag in rules.cell.tags}
    wanted = sorted({a.postcondition.tag for a in rules.catalogue.actions if a.postcondition is not None})
    shown: dict[str, tuple[str, ...]] = {}
    for tag in wanted:
        if tag in group:
            shown[group[tag]] = (*shown.get(group[tag], ()), tag)
    return shown


def _or_none(value: float) -> float | None:
    return value if value == value else None
