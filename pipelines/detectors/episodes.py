"""Episodes: one alarm condition per (cell, tag, detector), from onset to clear, with an identity that is derived."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from typing import Any

from pipelines.detectors.port import Signal
from schemas.anomalies import ClearReason, Severity
from schemas.evidence import Evidence
from schemas.facts import AnomalyCleared, AnomalyDetected, AnomalyUpdated, Detected
from schemas.plant import Tag

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:jidoka:episode")

Key = tuple[int, int, str]
"""(group, slot, detector)."""


@dataclass(slots=True)
class Episode:
    """An open episode."""

    episode_id: str
    onset_at: int
    rows: int
    """Rows of its group since it opened."""
    peak_z: float
    """Largest deviation since it opened; 0 if there was no baseline."""
    ended_at: int = 0
    """End of the row at which it ended, or when somebody ended it; 0 while it is open."""


class Episodes:
    """The open episodes of one cell."""

    def __init__(self, cell_path: str, config_sha256: str, update_rows: int) -> None:
        self._cell_path, self._config_sha256, self._update_rows = cell_path, config_sha256, update_rows
        self.open: dict[Key, Episode] = {}
        self._ended: list[Episode] = []

    def begin(
        self, at: int, key: Key, tag: Tag, signal: Signal, severity: Severity, evidence: Evidence
    ) -> AnomalyDetected:
        """Open an episode."""
        assert key not in self.open, f"{key} is open: a detector began it twice"
        detector = key[2]
        name = f"{self._cell_path}|{detector}|{tag.name}|{signal.onset_at}|{self._config_sha256}"
        episode_id = str(uuid.uuid5(NAMESPACE, name))
        self.open[key] = Episode(episode_id, signal.onset_at, 0, 0.0)
        return AnomalyDetected(
            at=at,
            episode_id=episode_id,
            detector=detector,
            tag=tag.name,
            asset=tag.asset,
            direction=signal.direction,
            severity=severity,
            onset_at=signal.onset_at,
            detail=signal.detail,
            evidence=evidence,
        )

    def end(self, at: int, keys: Iterable[Key], reason: ClearReason, *, ended_at: int) -> list[Detected]:
        """Close those of these episodes that are open. `ended_at` is kept for `take_ended` only."""
        facts: list[Detected] = []
        for key in keys:
            if key in self.open:
                episode = self.open.pop(key)
                episode.ended_at = ended_at
                self._ended.append(episode)
                facts.append(AnomalyCleared(at=at, episode_id=episode.episode_id, reason=reason))
        return facts

    def take_ended(self) -> list[Episode]:
        """Return the episodes that ended since this was asked last."""
        ended, self._ended = self._ended, []
        return ended

    def row(
        self, at: int, group: int, z: Callable[[int], float], evidence: Callable[[int], Evidence]
    ) -> list[Detected]:
        """Count a row of a group; episodes that are open for long tell how it stands.

        Args:
            at: Agent time of the facts.
            group: The row's group.
            z: The present deviation of a slot, NaN for none.
            evidence: Makes the evidence for a slot.
        """
        facts: list[Detected] = []
        for (of_group, slot, _), episode in self.open.items():
            if of_group != group:
                continue
            deviation = z(slot)
            if abs(deviation) > abs(episode.peak_z):
                episode.peak_z = deviation
            if episode.rows and episode.rows % self._update_rows == 0:
                facts.append(AnomalyUpdated(at=at, episode_id=episode.episode_id, evidence=evidence(slot)))
            episode.rows += 1
        return facts

    def state(self) -> list[Any]:
        """Return what `load` takes."""
        return [[list(key), list(astuple(episode))] for key, episode in self.open.items()]

    def load(self, state: list[Any]) -> None:
        """Go back to `state`."""
        self.open = {(key[0], key[1], key[2]): Episode(*episode) for key, episode in state}
