"""How a detection worker is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.operation.common import LAG_MAX, counter, gauge
from pipelines.operation.ends import Ends
from pipelines.operation.health import Backlog, Health
from pipelines.stages.detect import Standing, Worker
from schemas.settings import KafkaSettings

SAVES_MISSED_MAX = 3
"""Saves in a row that may fail to come while messages are taken."""


class ToldDetect:
    """A worker that can be asked."""

    name = "detect"

    def __init__(self, settings: KafkaSettings, worker: Worker, ends: Ends) -> None:
        self._worker, self._ends = worker, ends
        self._fresh_s = SAVES_MISSED_MAX * settings.snapshot_s
        self._backlog = Backlog(LAG_MAX)
        self._unsafe_since: dict[tuple[int, int], float] = {}
        """By partition and what was committed: when something behind it was first seen."""

    async def checks(self) -> Sequence[Health]:
        """Return assignment, broker, lag and commits."""
        ours = self._worker.partitions()
        said = f"has partitions {', '.join(map(str, sorted(ours)))}" if ours else "no partition was dealt to it"
        broker, words = self._ends.broker
        return [Health("assignment", bool(ours), said), Health("broker", broker, words), self._lag(), self._commits()]

    def _lag(self) -> Health:
        if self._ends.look is None:
            return Health("lag", False, "not known yet")
        taken = sum(standing.next_offset for standing in self._worker.standing().values())
        return self._backlog.look(sum(self._lags().values()), taken, time.monotonic())

    def _lags(self) -> dict[int, int]:
        """Return how much waits behind what was taken, by partition."""
        look = self._ends.look
        if look is None:
            return {}
        taken = {number: standing.next_offset for number, standing in self._worker.standing().items()}
        return {number: look.backlog(number, taken.get(number, 0)) for number in self._worker.partitions()}

    def _commits(self) -> Health:
        now_s, committed = time.monotonic(), self._worker.work.committed
        unsafe = {(n, committed.get(n, 0)) for n, each in self._worker.standing().items() if each.dirty}
        self._unsafe_since = {key: self._unsafe_since.get(key, now_s) for key in unsafe}
        late = {n: now_s - since_s for (n, _), since_s in self._unsafe_since.items() if now_s - since_s > self._fresh_s}
        said = ", ".join(f"partition {n} for {age_s:.0f} s" for n, age_s in late.items())
        return Health("commits", not late, f"nothing committed: {said}" if late else "fresh")

    async def families(self) -> Iterable[Any]:
        """Return what was taken and given, lags and offsets."""
        work, standing = self._worker.work, self._worker.standing()
        return [
            counter("jidoka_detect_messages_total", "Messages taken.", work.messages),
            counter("jidoka_detect_observations_total", "Observations given out.", work.observations),
            counter("jidoka_detect_dead_letters_total", "Messages that nobody can read.", work.dead_letters),
            counter("jidoka_detect_saves_total", "States saved.", work.saves),
            gauge("jidoka_detect_partitions", "Partitions that this worker has.", len(self._worker.partitions())),
            gauge(
                "jidoka_detect_committed_offset",
                "Up to where everything is safe.",
                {(str(number),): at for number, at in work.committed.items()},
                ["partition"],
            ),
            gauge(
                "jidoka_detect_lag_messages",
                "Messages that wait behind the last one taken.",
                {(str(number),): lag for number, lag in self._lags().items()},
                ["partition"],
            ),
            gauge(
                "jidoka_detect_unsaved_age_seconds",
                "Wall time since the last save, where something is not safe.",
                {(str(number),): each.unsaved_s for number, each in standing.items() if each.dirty},
                ["partition"],
            ),
            *_order(standing.values()),
        ]


def _order(standing: Iterable[Standing]) -> list[Any]:
    counts = {cell: each for one in standing for cell, each in one.counts.items()}
    return [
        counter(
            "jidoka_detect_messages_repeated_total",
            "Dropped: they were taken before.",
            {(cell,): each.repeated for cell, each in counts.items()},
            ["cell"],
        ),
        counter(
            "jidoka_detect_messages_reordered_total",
            "Came before their turn, and waited.",
            {(cell,): each.reordered for cell, each in counts.items()},
            ["cell"],
        ),
        counter(
            "jidoka_detect_messages_missing_total",
            "Never came; told as gaps.",
            {(cell,): each.missing for cell, each in counts.items()},
            ["cell"],
        ),
    ]
