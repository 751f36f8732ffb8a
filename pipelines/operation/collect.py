"""How a collector is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from agent.ports import Clock
from pipelines.collect import Collecting
from pipelines.config import Configuration
from pipelines.operation.common import certificate, counter, disk, free_bytes, gauge
from pipelines.operation.health import Health

FULL_SHARE: Final = 0.9
"""Of the spool: beyond it, samples will soon find no room."""
ACKNOWLEDGED_S: Final = 10.0
"""Wall time for which a message may wait for the broker's word."""


class ToldCollect:
    """A collector that can be asked."""

    name = "collect"

    def __init__(self, configuration: Configuration, collecting: Collecting, clock: Clock) -> None:
        self._settings, self._data = configuration.settings, configuration.data
        self._collecting, self._clock = collecting, clock

    async def checks(self) -> Sequence[Health]:
        """Return source, spool, disk and broker."""
        figures = self._collecting.figures(self._clock.now_us())
        return [*self._sources(), self._spool(figures.spool_bytes), disk(self._data), self._broker()]

    def _sources(self) -> list[Health]:
        checks = []
        for cell, heard in self._collecting.heard.items():
            if heard is None:
                checks.append(Health(f"source {cell}", False, "nothing was heard since the start"))
                continue
            age_s = time.monotonic() - heard.at_s
            fresh = age_s <= self._settings.silent_s
            said = f"last tick {age_s:.1f} s ago, the session {'lives' if heard.alive else 'is lost'}"
            checks.append(Health(f"source {cell}", fresh and heard.alive, said))
        return checks

    def _spool(self, bytes_n: int) -> Health:
        bytes_max = self._collecting.spool.bytes_max
        failure = self._collecting.failure
        said = f"{bytes_n / bytes_max:.0%} of {bytes_max / 1e6:.0f} MB"
        return Health(
            "spool", failure is None and bytes_n <= FULL_SHARE * bytes_max, said if not failure else str(failure)
        )

    def _broker(self) -> Health:
        figures = self._collecting.figures(self._clock.now_us())
        waited_s = figures.oldest_s / self._settings.clock.speed
        said = f"the oldest message without its word waits for {waited_s:.1f} s"
        ok = figures.connected and waited_s <= ACKNOWLEDGED_S
        return Health("broker", ok, said + (f"; {figures.fault}" if figures.fault else ""))

    async def families(self) -> Iterable[Any]:
        """Return what was taken, sent and lost, and how full the spool is."""
        n, now_s = self._collecting.figures(self._clock.now_us()), time.monotonic()
        heard = {cell: each for cell, each in self._collecting.heard.items() if each is not None}
        alive = {(cell,): float(each.alive) for cell, each in heard.items()}
        ages = {(cell,): now_s - each.at_s for cell, each in heard.items()}
        spool = self._collecting.spool
        return [
            counter("jidoka_collect_messages_taken_total", "Messages written into the spool.", n.taken_n),
            counter("jidoka_collect_samples_taken_total", "Samples in them.", n.taken_samples_n),
            counter("jidoka_collect_samples_lost_total", "Samples lost; told as gaps.", n.lost_samples_n),
            counter("jidoka_collect_messages_lost_total", "Messages that found no room.", n.lost_messages_n),
            counter("jidoka_collect_messages_sent_total", "Given to a producer, repeated ones too.", n.sent_n),
            counter("jidoka_collect_messages_acknowledged_total", "Messages that a broker has.", n.acknowledged_n),
            counter("jidoka_collect_messages_refused_total", "Refused for good; dead letters.", n.refused_n),
            counter("jidoka_collect_retries_total", "Producers given up, and failed connections.", n.retries_n),
            gauge("jidoka_collect_connected", "1: a producer is connected.", float(n.connected)),
            gauge("jidoka_spool_bytes", "What the spool takes on disk.", n.spool_bytes),
            gauge("jidoka_spool_bytes_max", "What it may take.", spool.bytes_max),
            gauge("jidoka_spool_unacknowledged_messages", "Messages that no broker has.", n.unacknowledged_n),
            gauge("jidoka_spool_oldest_age_seconds", "Age of the oldest of them, agent time.", n.oldest_s),
            gauge("jidoka_spool_position", "Of the last message taken.", spool.position),
            gauge("jidoka_spool_acknowledged_position", "Up to which a broker has all.", spool.acknowledged),
            gauge("jidoka_source_alive", "1: session and PLC live, as the last tick says.", alive, ["cell"]),
            gauge("jidoka_source_heard_age_seconds", "Wall time since the last tick.", ages, ["cell"]),
            free_bytes(self._data),
            *certificate(self._settings.opcua),
        ]
