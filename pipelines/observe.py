"""Wiring of mode `observe`: everything but acting. Nothing that is imported from here can write to a plant."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import numpy as np

from agent.effects import Effect, Rebaseline
from agent.guard.question import Rulebook
from agent.ports import Clock, Notifier, Reasoner
from connectors.notifiers.command import CommandNotifier, LogNotifier
from connectors.opcua.subscribe import OpcUaCollector
from pipelines.advising import Advisor
from pipelines.config import Configuration
from pipelines.decide import CellService
from pipelines.hosting import Parts, Source, clock_of
from pipelines.reasoning import reasoners_of
from pipelines.rebaselining import rebaseline_control
from schemas.plans import Tier
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


class Observer(Advisor):
    """An advisor that also tells the detectors what a person said of them."""

    def __init__(
        self,
        service: CellService,
        cell: Cell,
        clock: Clock,
        reasoners: Mapping[Tier, Reasoner],
        notifiers: Sequence[Notifier],
    ) -> None:
        super().__init__(service, clock, reasoners, notifiers)
        self._service, self._cell, self._controls = service, cell, 0

    def work_for(self, effect: Effect) -> Coroutine[Any, Any, None] | None:
        """Return what fulfils a wish; None for those that need a machine: nobody does them."""
        return self._rebaseline(effect) if isinstance(effect, Rebaseline) else super().work_for(effect)

    async def _rebaseline(self, effect: Rebaseline) -> None:
        self._controls += 1
        epoch = self._service.epoch
        await self._service.put(rebaseline_control(effect, self._cell, epoch=epoch, seq=self._controls))


def observe_parts(configuration: Configuration) -> Parts:
    """Return the parts of an agent that only watches and advises."""
    clock, reasoners = clock_of(configuration.settings), reasoners_of(configuration)

    def observer(service: CellService, rules: Rulebook) -> Advisor:
        return Observer(service, rules.cell, clock, reasoners, notifiers(configuration))

    return Parts(source=collector(configuration, np.random.default_rng()), fulfiller=observer)
