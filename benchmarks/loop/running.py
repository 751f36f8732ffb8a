"""One run of the simulated cell under one agent, or under none, and what it lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.ports import Reasoner
from benchmarks.loop.faults import Trouble
from connectors.clock import VirtualClock
from connectors.plant.direct import DirectPlant
from connectors.plant.station import Station
from pipelines.config import Configuration
from pipelines.demo.stage import SimulatedStage
from pipelines.simulation import START_US, Simulation
from schemas.facts import CommandIntended
from schemas.line import PackMLState
from schemas.plans import Tier

APPROVE_S: Final = 20.0
"""Plant time that the person at the cell takes to approve. He approves everything and does nothing else."""
TTL_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Lost:
    """What a run lost behind the onset of its faults."""

    downtime_s: float
    """Plant time in which no good part was in the making: stops, and cycles whose part is scrap."""
    lost_s: float
    """The horizon less the good parts at the healthy pace: downtime, and what a slower pace costs."""
    stopped_s: float
    """Plant time of that in which the cell was not in EXECUTE."""
    scrap_n: int
    actions_n: int


@dataclass(slots=True)
class _Count:
    """What a run has made so far."""

    station: Station
    takt_s: float = 0.0
    good_n: int = 0
    scrap_n: int = 0
    part_n: int = 0
    seen_scrap_n: int = 0
    making_s: float = 0.0
    """Time of the cycles that made good parts."""
    began_us: int = 0
    seen_us: int = 0
    stopped_us: int = 0

    def begin(self, at_us: int) -> None:
        """Take note at the onset: the last cycles before it gave the healthy pace."""
        plc = self.station.plc
        self.takt_s = self.making_s / max(plc.part_count - plc.scrap_count, 1)
        self.good_n, self.scrap_n, self.making_s = plc.part_count - plc.scrap_count, plc.scrap_count, 0.0
        self.began_us = self.seen_us = at_us

    def see(self, at_us: int) -> None:
        """Count the time since the last look by the state in which it was spent, and a part that came meanwhile."""
        plc = self.station.plc
        if plc.part_count > self.part_n and plc.scrap_count == self.seen_scrap_n:
            self.making_s += self.station.publisher.image["cycle_time_s"].value
        self.part_n, self.seen_scrap_n = plc.part_count, plc.scrap_count
        if self.station.plc.state is not PackMLState.EXECUTE:
            self.stopped_us += at_us - self.seen_us
        self.seen_us = at_us

    def lost(self, actions_n: int) -> Lost:
        """Return what was lost up to now."""
        plc = self.station.plc
        good_n = plc.part_count - plc.scrap_count - self.good_n
        return Lost(
            downtime_s=round((self.seen_us - self.began_us) / 1e6 - self.making_s, 3),
            lost_s=round((self.seen_us - self.began_us) / 1e6 - good_n * self.takt_s, 3),
            stopped_s=round(self.stopped_us / 1e6, 3),
            scrap_n=plc.scrap_count - self.scrap_n,
            actions_n=actions_n,
        )


async def under_agent(
    configuration: Configuration, which: Trouble, horizon_s: float, reasoners: Mapping[Tier, Reasoner]
) -> Lost:
    """Run with the whole agent in the loop."""
    simulation = Simulation(configuration, seed=which.seed, reasoners=reasoners)
    stage, clock, count = SimulatedStage(simulation), simulation.clock, _Count(simulation.plant.station)
    asked_at: dict[str, int] = {}
    async with simulation.running():
        while clock.now_us() < START_US + which.onset_s * 1e6:
            await simulation.step()
            count.see(clock.now_us())
        count.begin(clock.now_us())
        _break(simulation.plant.station, which)
        since, until_us = len(simulation.facts), clock.now_us() + round(horizon_s * 1e6)
        while clock.now_us() < until_us:
            await simulation.step()
            count.see(clock.now_us())
            await _approve(stage, asked_at, clock.now_us())
    return count.lost(sum(isinstance(fact, CommandIntended) for fact in simulation.facts[since:]))


async def _approve(stage: SimulatedStage, asked_at: dict[str, int], now_us: int) -> None:
    for command_id, progress in list(stage.state.commands.items()):
        if (
            progress.phase == "awaiting_approval"
            and now_us >= asked_at.setdefault(command_id, now_us) + APPROVE_S * 1e6
        ):
            await stage.operate("approve", command_id)


def alone(configuration: Configuration, which: Trouble, horizon_s: float, plan: Sequence[Step] = ()) -> Lost:
    """Run without an agent; what `plan` says is done at the onset."""
    clock = VirtualClock(START_US)
    plant = DirectPlant(configuration.plant.cells[0], which.seed, clock)
    count, onset_us = _Count(plant.station), START_US + round(which.onset_s * 1e6)
    steps = plant.steps()
    while clock.now_us() < onset_us:
        next(steps)
        count.see(clock.now_us())
    count.begin(clock.now_us())
    _break(plant.station, which)
    waiting, until_us = list(plan), clock.now_us() + round(horizon_s * 1e6)
    while clock.now_us() < until_us:
        # A command that was rejected is rejected for good: each attempt has an id of its own.
        if waiting and _do(plant, waiting[0], f"oracle-{len(waiting)}-{clock.now_us()}"):
            waiting.pop(0)
        next(steps)
        count.see(clock.now_us())
    return count.lost(len(plan) - len(waiting))


@dataclass(frozen=True, slots=True)
class Step:
    """One action of a plan, as the PLC is told."""

    action: str
    verb: str
    tags: tuple[str, ...]
    values: tuple[float, ...]


def _do(plant: DirectPlant, step: Step, command_id: str) -> bool:
    """Tell the PLC; whether it took it. One that is busy is asked again."""
    image = plant.station.publisher.image
    old = [image[tag].value for tag in step.tags]
    answer = plant.station.plc.execute(command_id, 1, "0" * 64, step.verb, list(step.values), old, TTL_MS)
    return answer.state.name in ("DONE", "RUNNING")


def _break(station: Station, which: Trouble) -> None:
    for fault in which.faults:
        station.inject(fault, which.severity)
