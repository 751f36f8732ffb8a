"""Wiring of mode `observe`: everything but acting. Nothing that is imported from here can write to a plant."""

from __future__ import annotations

import numpy as np

from agent.guard.question import Rulebook
from agent.ports import Notifier
from connectors.notifiers.command import CommandNotifier, LogNotifier
from connectors.opcua.subscribe import OpcUaCollector
from pipelines.advising import Advisor
from pipelines.config import Configuration
from pipelines.decide import CellService
from pipelines.hosting import Parts, Source, clock_of
from pipelines.reasoning import Reasoners
from schemas.plant import Cell


def notifiers(configuration: Configuration) -> list[Notifier]:
    """Return the ways in which a person is reached."""
    notify = configuration.settings.notify
    command: list[Notifier] = [CommandNotifier(notify.command, notify.timeout_s)] if notify.command else []
    return [LogNotifier(), *command]


def collector(configuration: Configuration, rng: np.random.Generator) -> OpcUaCollectorFactory:
    """Return what makes the collector of a cell."""
    return OpcUaCollectorFactory(configuration, rng)


class OpcUaCollectorFactory:
    """Makes collectors that share one clock."""

    def __init__(self, configuration: Configuration, rng: np.random.Generator) -> None:
        self._settings, self._rng = configuration.settings, rng
        self._clock = clock_of(configuration.settings)

    def __call__(self, cell: Cell, epoch: int) -> Source:
        """Return the collector of one cell."""
        return OpcUaCollector(cell, self._settings.opcua, self._clock, epoch=epoch, rng=self._rng)


def observe_parts(configuration: Configuration) -> Parts:
    """Return the parts of an agent that only watches and advises."""
    clock, reasoners = clock_of(configuration.settings), Reasoners(configuration)

    def observer(service: CellService, rules: Rulebook) -> Advisor:
        return Advisor(service, rules.cell, clock, reasoners.of(rules.cell), notifiers(configuration))

    async def probes(service: CellService) -> None:
        await reasoners.keep_probed()

    source = collector(configuration, np.random.default_rng())
    return Parts(source=source, fulfiller=observer, companions=[probes] if reasoners.servers else [])
