"""How a decision service on Kafka is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from agent.ports import Clock
from pipelines.config import Configuration
from pipelines.operation.cells import STORE_S, ToldCells
from pipelines.operation.common import LAG_MAX, counter, gauge
from pipelines.operation.ends import Ends
from pipelines.operation.health import Backlog, Health
from pipelines.operation.measured import Measured
from pipelines.stages.consumer import Consumer
from pipelines.stages.deciding import Decider
from pipelines.stages.mirror import Mirror
from schemas.observations import OFFSET
from schemas.topics import partition_of

POLLED_S: Final = 15.0
"""Wall time since the consumer's last poll: starting a cell with a long log happens between two."""
MIRROR_MAX: Final = 2_000
"""Facts that the mirror may be behind."""


class ToldDecide:
    """A decision service that can be asked."""

    name = "decide"

    def __init__(
        self,
        configuration: Configuration,
        parts: tuple[Decider, Consumer, Mirror],
        store: Measured,
        ends: Ends,
        clock: Clock,
    ) -> None:
        self._decider, self._consumer, self._mirror = parts
        self._store, self._ends = store, ends
        self._cells = ToldCells(configuration.settings, configuration.data, self._decider.services, store, clock)
        self._backlog, self._mirror_backlog = Backlog(LAG_MAX), Backlog(MIRROR_MAX)

    async def checks(self) -> Sequence[Health]:
        """Return cells, input, store, disk, consumer, broker, lag and mirror."""
        broker, said = self._ends.broker
        checks = [*await self._cells.checks(), self._polling(), Health("broker", broker, said), self._lag()]
        return [*checks, await self._mirroring()]

    def _polling(self) -> Health:
        if self._consumer.failure is not None or not self._consumer.is_alive():
            return Health("consumer", False, f"it ended: {self._consumer.failure}")
        age_s = time.monotonic() - self._consumer.polled_s
        return Health("consumer", age_s <= POLLED_S, f"polled {age_s:.1f} s ago")

    def _lags(self) -> dict[int, int]:
        """Return the messages behind the slowest cell, by partition."""
        look, lags = self._ends.look, Counter[int]()
        for cell, service in list(self._decider.services.items()) if look is not None else ():
            number = partition_of(cell, self._decider.settings.partitions)
            assert look is not None
            lags[number] = max(lags[number], look.backlog(number, service.places.get(OFFSET, 0)))
        return lags

    def _lag(self) -> Health:
        if self._ends.look is None:
            return Health("lag", False, "not known yet")
        taken = sum(service.places.get(OFFSET, 0) for service in list(self._decider.services.values()))
        return self._backlog.look(sum(self._lags().values()), taken, time.monotonic())

    async def _mirroring(self) -> Health:
        if not self._decider.has(0):
            return Health("mirror", True, "another process copies the log")
        copied = self._mirror_backlog.look(await self._behind(), self._mirror.position, time.monotonic())
        return Health("mirror", copied.ok, copied.detail)

    async def _behind(self) -> int:
        try:
            head = await asyncio.wait_for(self._store.head(), STORE_S)
        except Exception:  # noqa: BLE001  # the check of the store says so
            return 0
        return max(0, head.position - self._mirror.position)

    async def families(self) -> Iterable[Any]:
        """Return the cells' figures, lag, what could not be used, and mirror."""
        ours = self._decider.has(0)
        mirrored = {(): float(self._mirror.position)} if ours else {}
        behind = {(): float(await self._behind())} if ours else {}
        lags = {(str(number),): float(lag) for number, lag in self._lags().items()}
        return [
            *self._cells.families(),
            gauge("jidoka_decide_lag_messages", "Observations that wait, of the slowest cell.", lags, ["partition"]),
            counter("jidoka_decide_dead_letters_total", "Messages that could not be used.", self._decider.dead_letters),
            counter(
                "jidoka_decide_passed_over_total", "Observations of unknown cells, not read.", self._decider.passed_over
            ),
            gauge("jidoka_mirror_position", "Of the last fact on decisions.v1; only where it is copied.", mirrored),
            gauge("jidoka_mirror_lag_facts", "Facts that are not on decisions.v1 yet.", behind),
        ]
