"""How the cells of a process are, wherever their detection runs; and the embedded agent, which has nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from prometheus_client.core import HistogramMetricFamily

from agent.incident import Phase
from agent.ports import Clock
from pipelines.decide import CellService
from pipelines.operation.common import certificate, counter, disk, free_bytes, gauge
from pipelines.operation.health import Health
from pipelines.operation.measured import BUCKETS_S, Measured
from schemas.settings import Settings

STORE_S: Final = 1.0
"""Wall time for the store to say where it ends."""


class ToldCells:
    """Cells of one process and their store."""

    def __init__(
        self, settings: Settings, data: Path, services: Mapping[str, CellService], store: Measured, clock: Clock
    ) -> None:
        self._settings, self._data, self._clock = settings, data, clock
        self._services, self._store = services, store

    async def checks(self) -> list[Health]:
        """Return cells, input, store and disk."""
        failed = {cell: each.failed for cell, each in self._services.items() if each.failed is not None}
        said = ", ".join(f"{cell} stopped: {error}" for cell, error in failed.items())
        return [
            Health("cells", bool(self._services) and not failed, said or f"{len(self._services)} run here"),
            *(self._input(service) for service in self._services.values()),
            await self._writable(),
            disk(self._data),
        ]

    def _input(self, service: CellService) -> Health:
        name = f"input {service.cell}"
        if not service.last_heard_us:
            return Health(name, False, "none since the start")
        age_s = (self._clock.now_us() - service.last_heard_us) / 1e6 / self._settings.clock.speed
        lives = "" if service.state.source_alive else "; the source is lost"
        return Health(name, age_s <= self._settings.silent_s and not lives, f"{age_s:.1f} s ago{lives}")

    async def _writable(self) -> Health:
        if self._store.failure:
            return Health("store", False, f"the last append failed: {self._store.failure}")
        try:
            head = await asyncio.wait_for(self._store.head(), STORE_S)
        except TimeoutError:
            return Health("store", False, f"no answer within {STORE_S:g} s")
        except Exception as error:  # noqa: BLE001  # databases raise several families; each means the same here
            return Health("store", False, f"{type(error).__name__}: {error}")
        return Health("store", True, f"the log ends at {head.position}")

    def families(self) -> list[Any]:
        """Return what was concluded, how long it took to write, and where each cell stands."""
        cells = list(self._services.values())
        now_us, speed = self._clock.now_us(), self._settings.clock.speed
        heard = {(s.cell,): (now_us - s.last_heard_us) / 1e6 / speed for s in cells if s.last_heard_us}
        return [
            counter("jidoka_decide_facts_total", "Facts appended.", dict(self._store.facts_n), ["cell", "type"]),
            counter("jidoka_decide_append_failures_total", "Appends refused or failed.", self._store.failed_n),
            _histogram(self._store),
            gauge("jidoka_decide_cells", "Cells that run here.", len(cells)),
            gauge("jidoka_decide_commands", "Commands by phase.", _commands(cells), ["cell", "phase"]),
            gauge("jidoka_decide_input_age_seconds", "Wall time since the source's last input.", heard, ["cell"]),
            _each("jidoka_decide_incidents_open", "Open incidents.", cells, lambda s: len(s.state.incidents)),
            _each("jidoka_decide_epoch", "The cell's epoch.", cells, lambda s: s.epoch),
            _each("jidoka_decide_automation_on", "1: not switched off.", cells, lambda s: s.state.automation_on),
            _each("jidoka_decide_queue_messages", "Messages that wait for the cell.", cells, lambda s: s.waiting_n),
            free_bytes(self._data),
            *certificate(self._settings.opcua),
        ]


class ToldRun:
    """The embedded agent, that can be asked."""

    name = "run"

    def __init__(self, cells: ToldCells) -> None:
        self._cells = cells

    async def checks(self) -> Sequence[Health]:
        """Return cells, input, store and disk."""
        return await self._cells.checks()

    async def families(self) -> Iterable[Any]:
        """Return the cells' figures."""
        return self._cells.families()


def _each(name: str, says: str, cells: Sequence[CellService], value: Callable[[CellService], float]) -> Any:
    return gauge(name, says, {(service.cell,): float(value(service)) for service in cells}, ["cell"])


def _commands(cells: Sequence[CellService]) -> dict[tuple[str, str], float]:
    """Return how many commands are in each phase; every phase is there, so that a graph begins at 0."""
    counts: dict[tuple[str, str], float] = {
        (service.cell, phase): 0.0 for service in cells for phase in get_args(Phase)
    }
    for service in cells:
        for progress in service.state.commands.values():
            counts[service.cell, progress.phase] += 1
    return counts


def _histogram(store: Measured) -> Any:
    cumulated, buckets = 0, []
    for bound_s, n in zip([*map(str, BUCKETS_S), "+Inf"], store.appends_n, strict=True):
        cumulated += n
        buckets.append((bound_s, cumulated))
    family = HistogramMetricFamily("jidoka_decide_append_seconds", "Wall time of an append, until it was durable.")
    family.add_metric([], buckets, sum_value=store.append_s)
    return family
