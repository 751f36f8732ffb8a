"""The same PLC and plant in one process on a virtual clock, without OPC UA: for runs of hours in seconds.

`DirectPlant.steps` yields what a collector would deliver, in time order, and moves the clock itself; between two steps
the agent acts through `DirectRobot`. Whoever draws the next step is alive: that is the agent's heartbeat here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from connectors.clock import VirtualClock
from connectors.plant.codes import STATE_NAMES
from connectors.plant.plc import AGENT_SILENT_S, Answer
from connectors.plant.station import SECOND_US, Station
from connectors.plant.tags import Published
from schemas.commands import Command, Reading
from schemas.errors import ConnectionFault
from schemas.outcomes import Answered, NotSent, Outcome, Unknown, of_query
from schemas.plant import Cell
from schemas.samples import Gap, Input, LineEvent, SampleBatch, Tick

RESTART_S = 2.0
"""Plant time without a PLC after `restart`."""
CYCLE_WITHIN_S = 600.0


class Step(NamedTuple):
    """What became known at one moment. `inputs` is never empty."""

    at_us: int
    inputs: list[Input]


class DirectPlant:
    """See the module."""

    def __init__(
        self, config: Cell, seed: int, clock: VirtualClock, *, epoch: int = 1, agent_silent_s: float = AGENT_SILENT_S
    ) -> None:
        """Come up at the clock's present time.

        Args:
            config: The cell whose tags are published.
            seed: Of everything in the plant that is chance.
            clock: Moved by `steps`; nobody else moves it.
            epoch: Of the source.
            agent_silent_s: See `connectors.plant.plc`.
        """
        self.clock, self.config = clock, config
        self.source = f"direct:{config.id}"
        self.station = Station(
            config, seed, ledger=None, now_us=clock.now_us, wall_us=clock.now_us, agent_silent_s=agent_silent_s
        )
        self._epoch, self._seq = epoch, 0
        self._ids = {tag.name: tag.id for tag in config.tags}
        self._state_tag = next((t.name for t in config.tags if t.node == config.state_node), "packml_state")
        self._lost_at: int | None = None
        self._lost_until: int = 0
        self._restart = False
        self._told: dict[str, Published] = {}
        self._told_state: int | None = None
        self._stepping: Iterator[Step] | None = None
        self._untold: list[Published] = []
        """Shown already to whoever reads, and still to be told to the collector."""

    @property
    def connected(self) -> bool:
        """Whether the agent can reach the PLC now."""
        return self.clock.now_us() >= self._lost_until

    def lose_connection(self, seconds: float) -> None:
        """Cut the agent off from the plant for a while; the plant goes on."""
        now_us = self.clock.now_us()
        self._lost_at = now_us if self._lost_at is None else self._lost_at
        self._lost_until = max(self._lost_until, now_us + round(seconds * SECOND_US))

    def resubscribe(self, epoch: int) -> None:
        """Begin as a collector that was just started: what it had not yet drawn is gone, and every node is told anew.

        Args:
            epoch: Of the source from now on.
        """
        self._epoch, self._seq = epoch, 0
        self._told.clear()
        self._told_state = None
        self._untold = [shown for shown in self.station.publisher.image.values() if shown.source_at > 0]

    def restart(self) -> None:
        """Restart the PLC: the plant stands and nobody is connected for `RESTART_S`."""
        self._restart = True
        self.lose_connection(RESTART_S)

    def steps(self) -> Iterator[Step]:
        """Run for ever. Each step's time is the clock's; times never go back, and come every second at least.

        There is one plant, so there is one run: asking again goes on where the last one stopped.
        """
        if self._stepping is None:
            self._stepping = self._run()
        return self._stepping

    def _run(self) -> Iterator[Step]:
        yield from self._tell(self.station.start(self.clock.now_us()))
        while True:
            at_us = self.clock.now_us()
            work = self.station.begin()
            yield from self._tell(self.station.changes(at_us))
            outcome = self.station.compute(work, at_us)
            ends_at = at_us + outcome.takes_us
            yield from self._seconds(at_us, ends_at)
            if self._restart:
                yield from self._down()
                continue
            self.clock.advance(ends_at)
            yield from self._tell(self.station.finish(work, outcome, ends_at))

    def run(self, seconds: float) -> list[Input]:
        """Return all inputs of the next `seconds` of plant time, and of the work that they end in."""
        until_us, inputs = self.clock.now_us() + round(seconds * SECOND_US), []
        for step in self.steps():
            inputs += step.inputs
            if step.at_us >= until_us:
                break
        return inputs

    def run_cycle(self) -> list[Input]:
        """Return all inputs up to the end of the next cycle.

        Raises:
            TimeoutError: none ended within `CYCLE_WITHIN_S`: the cell is held or aborted.
        """
        begun_us, counted, inputs = self.clock.now_us(), self.station.plc.cycle_count, []
        for step in self.steps():
            inputs += step.inputs
            if self.station.plc.cycle_count != counted:
                break
            if step.at_us > begun_us + CYCLE_WITHIN_S * SECOND_US:
                raise TimeoutError(f"no cycle within {CYCLE_WITHIN_S} s: the cell is {self.station.plc.state.name}")
        return inputs

    # -------------------------------------------------------------- helpers

    def _seconds(self, from_us: int, until_us: int) -> Iterator[Step]:
        """Let plant time pass: a status batch and a tick at each whole second in `from_us` <= t < `until_us`."""
        first = -(-from_us // SECOND_US) * SECOND_US
        for second in range(first, until_us, SECOND_US):
            if self._restart:
                return
            self.clock.advance(second)
            yield from self._tell(self.station.second(second), tick=True)

    def _down(self) -> Iterator[Step]:
        """Stand without a PLC until the connection may come back."""
        self._restart = False
        began_us = self.clock.now_us()
        first = (began_us // SECOND_US + 1) * SECOND_US
        for second in range(first, self._lost_until, SECOND_US):
            self.clock.advance(second)
            yield Step(second, [self._tick(second, alive=False)])
        self.clock.advance(self._lost_until)
        self.station.cell.stand((self.clock.now_us() - began_us) / SECOND_US)
        self.station.restart()
        yield from self._tell(self.station.start(self.clock.now_us()))

    def show(self) -> None:
        """Let whoever reads see at once what a command changed, as a server does; the collector hears of it next."""
        self._untold += self.station.changes(self.clock.now_us())

    def _tell(self, published: Sequence[Published], *, tick: bool = False) -> Iterator[Step]:
        """Yield one step, and more at the same time for what the agent changed on seeing it."""
        at_us = self.clock.now_us()
        inputs = self._inputs(published, at_us)
        if tick:
            inputs.append(self._tick(at_us, alive=self.connected))
        while inputs:
            yield Step(at_us, inputs)
            if self.connected:
                self.station.plc.agent_beat(self.station.plc.agent_heartbeat + 1)
            self.show()
            inputs = self._inputs((), at_us)

    def _inputs(self, published: Sequence[Published], at_us: int) -> list[Input]:
        if not self.connected:
            return []
        published, self._untold = [*self._untold, *published], []
        inputs: list[Input] = []
        if self._lost_at is not None:
            gap = Gap(self.source, self._epoch, self._next(), (), self._lost_at, at_us, "connection lost")
            # A fresh subscription begins with what every node shows now.
            published = [p for p in self.station.publisher.image.values() if p.source_at > 0]
            self._lost_at = None
            self._told.clear()
            inputs.append(gap)
        # A subscription is silent about a node of which not even the time has changed: a frozen sensor.
        published = [p for p in published if self._told.get(p.name) != p]
        self._told.update((p.name, p) for p in published)
        if published:
            inputs.append(self._batch(published, at_us))
        inputs += [
            LineEvent(self.source, self._epoch, self._next(), "packml.state", p.source_at, int(p.value))
            for p in published
            if p.name == self._state_tag and self._state_is_news(int(p.value))
        ]
        return inputs

    def _state_is_news(self, state: int) -> bool:
        news = state != self._told_state
        self._told_state = state
        return news

    def _batch(self, rows: Sequence[Published], at_us: int) -> SampleBatch:
        return SampleBatch(
            source=self.source,
            epoch=self._epoch,
            seq=self._next(),
            tag=np.array([self._ids[p.name] for p in rows], dtype=np.uint32),
            source_at=np.array([p.source_at for p in rows], dtype=np.int64),
            server_at=np.full(len(rows), at_us, dtype=np.int64),
            value=np.array([p.value for p in rows], dtype=np.float64),
            status=np.array([p.status for p in rows], dtype=np.uint32),
        )

    def _tick(self, at_us: int, *, alive: bool) -> Tick:
        return Tick(self.source, self._epoch, self._next(), complete_until=at_us, alive=alive)

    def _next(self) -> int:
        self._seq += 1
        return self._seq - 1


class DirectRobot:
    """`agent.ports.Robot` over the PLC of a `DirectPlant`. Answers come at once."""

    def __init__(self, plant: DirectPlant) -> None:
        self._plant = plant

    async def snapshot(self, tags: Sequence[str]) -> Mapping[str, Reading]:
        """Read these tags now; a derived one is computed from its two.

        Raises:
            ConnectionFault: the connection is lost, or there is no such tag.
        """
        if not self._plant.connected:
            raise ConnectionFault(f"{self._plant.source}: connection lost")
        try:
            return {name: self._read(name) for name in tags}
        except KeyError as error:
            raise ConnectionFault(f"{self._plant.source}: no tag is called {error.args[0]!r}") from error

    async def execute(
        self, command: Command, *, command_sha256: str, epoch: int, ttl_s: float, timeout_s: float
    ) -> Outcome:
        """Do the command once."""
        if not self._plant.connected:
            return NotSent("connection lost")
        answer = self._plant.station.plc.execute(
            command.command_id,
            epoch,
            command_sha256,
            command.verb,
            list(command.args.values()),
            list(command.from_values.values()),
            round(ttl_s * 1000),
        )
        self._plant.show()
        return _answered(answer)

    async def query(self, command_id: str, *, epoch: int, timeout_s: float) -> Outcome:
        """Ask what became of a command."""
        if not self._plant.connected:
            return Unknown(0.0, "connection lost")
        return of_query(_answered(self._plant.station.plc.query(command_id, epoch)))

    def _read(self, name: str) -> Reading:
        tag = self._plant.config.tag(name)
        at_us = self._plant.clock.now_us()
        if tag.minus is not None:
            first, second = (self._read(part) for part in tag.minus)
            value = None if first.value is None or second.value is None else first.value - second.value
            return Reading(value, max(first.status, second.status), min(first.source_at, second.source_at), at_us)
        shown = self._plant.station.publisher.image[name]
        value = shown.value if shown.value == shown.value else None
        return Reading(value, shown.status, shown.source_at, at_us)


def _answered(answer: Answer) -> Answered:
    return Answered(state=STATE_NAMES[answer.state], code=int(answer.code), detail=answer.detail)
