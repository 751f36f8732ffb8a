"""One corrective story on a plant that outlives its agent, crashed at will, and what must hold in the end.

The plant, its PLC with its ledger, the log, the blobs and the kept input live on in a `World`; an agent is one `live`.
What the PLC was told and what it did is written down at the PLC itself: the agent's log is never taken as witness.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from agent.ports import Blobs, EventStore
from connectors.clock import VirtualClock
from connectors.eventlog.blobs import FileBlobs, MemoryBlobs
from connectors.eventlog.chain import genesis, link
from connectors.eventlog.memory import MemoryStore
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.verify import verify
from connectors.plant.direct import DirectPlant
from connectors.plant.plc import Answer, Plc
from pipelines.config import Configuration
from pipelines.decide import CellService
from pipelines.derive import Derivation
from pipelines.executor import Executor
from pipelines.recover import rebuild
from pipelines.replay import replay
from pipelines.runner import FolderKeeper
from pipelines.simulation import START_US, MemoryKeeper, Simulation
from schemas import facts
from schemas.facts import DERIVED_NAMES, AnyFact, OperatorRequested
from schemas.line import PackMLState
from schemas.records import Recorded
from schemas.samples import INPUT, Kept
from tests.support.crashing import Crash, CrashingBlobs, CrashingKeeper, CrashingRobot, CrashingStore, Points
from tests.support.quick_plant import quick_configuration, quick_plant

WARM_S = 8.0
"""Plant time within which the normal is learnt. Stories in memory begin behind it, with a log that somebody left."""
FAULT_AT_S = 9.0
"""Plant time at which the pads become oily."""
STORY_S = 40.0
"""Plant time within which every story must have ended."""
SEGMENT_INPUTS = 20
SEGMENT_BYTES = 25_000

Kind = Literal["effective", "absent"]
KINDS: tuple[Kind, ...] = ("effective", "absent")

ENDS: dict[Kind, tuple[float, float, PackMLState]] = {
    "effective": (40.0, 50.0, PackMLState.EXECUTE),
    "absent": (15.0, 50.0, PackMLState.HELD),
}
"""Grip force, motion speed and state of the cell in which a story ends, crashed or not."""


@dataclass(slots=True)
class Wire:
    """What arrived at the PLC, in order, and what it did: noted at the PLC."""

    told: list[tuple[str, str, int, str]] = field(default_factory=list)
    """execute or query, command id, epoch, the answer's state."""
    effects: Counter[str] = field(default_factory=Counter)
    """How often a command changed a set-point or the state."""

    def watch(self, plc: Plc) -> None:
        """Stand between everybody and this PLC."""
        execute, query = plc.execute, plc.query

        def executed(command_id: str, epoch: int, *rest: Any) -> Answer:
            before = (plc.setpoints, plc.state)
            answer = execute(command_id, epoch, *rest)
            self.effects[command_id] += (plc.setpoints, plc.state) != before
            self.told.append(("execute", command_id, epoch, answer.state.name))
            return answer

        def queried(command_id: str, epoch: int) -> Answer:
            answer = query(command_id, epoch)
            self.told.append(("query", command_id, epoch, answer.state.name))
            return answer

        plc.execute, plc.query = executed, queried  # type: ignore[method-assign]


class SegmentedKeeper(MemoryKeeper):
    """Kept input in memory that wants a new segment every so often, as files do."""

    def __init__(self) -> None:
        super().__init__()
        self._rotated_at = 0

    def append(self, kept: Kept) -> bool:
        super().append(kept)
        return self.position - self._rotated_at >= SEGMENT_INPUTS

    def rotate(self) -> None:
        self._rotated_at = self.position


@dataclass(slots=True)
class World:
    """What no crash of the agent touches."""

    kind: Kind
    configuration: Configuration
    plant: DirectPlant
    blobs: Blobs
    store: EventStore | None
    keeper: MemoryKeeper | None
    folder: Path | None = None
    """With one, log and input are the real ones on disk, opened anew by each life."""
    wire: Wire = field(default_factory=Wire)
    broken: bool = False
    executor: type[Executor] = Executor
    service: type[CellService] = CellService

    @contextlib.contextmanager
    def storage(self) -> Iterator[tuple[Any, Any]]:
        """Open log and kept input as a starting process does. A death leaves them as they are."""
        if self.folder is None:
            yield self.store, self.keeper
            return
        store = SqliteStore.open(self.folder / "log", clock=self.plant.clock)
        keeper = FolderKeeper(
            self.folder / "segments",
            cell=self.configuration.plant.cells[0].path,
            bytes_max=SEGMENT_BYTES,
            keep_bytes=10**9,
        )
        try:
            yield store, keeper
        finally:
            keeper.close()
            asyncio.run(store.close())


def world(kind: Kind, folder: Path | None = None) -> World:
    """Make a healthy plant without an agent: on disk from nothing, in memory with the normal learnt already."""
    configuration, clock = quick_configuration(), VirtualClock(START_US)
    plant = quick_plant(configuration, clock)
    if folder is not None:
        made = World(kind, configuration, plant, FileBlobs(folder / "blobs"), None, None, folder)
    else:
        plant.run(WARM_S)
        store, blobs, keeper = asyncio.run(_inherited(clock, legacy()))
        made = World(kind, configuration, plant, blobs, store, keeper)
    made.wire.watch(plant.station.plc)
    return made


@dataclass(frozen=True, slots=True)
class Legacy:
    """What an agent left that learnt the normal and was stopped."""

    records: tuple[Recorded, ...]
    inputs: tuple[Kept, ...]
    blobs: tuple[bytes, ...]


@cache
def legacy() -> Legacy:
    """Let an agent learn the normal."""
    configuration, clock = quick_configuration(), VirtualClock(START_US)
    store, blobs, keeper = MemoryStore(clock=clock), NotedBlobs(), SegmentedKeeper()

    async def learn() -> tuple[Recorded, ...]:
        simulation = Simulation(
            configuration, seed=0, store=store, blobs=blobs, keeper=keeper, plant=quick_plant(configuration, clock)
        )
        async with simulation.running():
            while clock.now_us() < START_US + WARM_S * 1e6:
                await simulation.step()
        return tuple([record async for record in store.read_all()])

    records = asyncio.run(learn())
    assert any(isinstance(record.fact, facts.CalibrationAdopted) for record in records), "nothing was learnt"
    assert any(isinstance(record.fact, facts.DetectorSnapshotted) for record in records), "no snapshot was taken"
    return Legacy(records, tuple(keeper.read(after=0)), tuple(blobs.noted))


class NotedBlobs(MemoryBlobs):
    """Blobs that can be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[bytes] = []

    def put(self, data: bytes) -> str:
        self.noted.append(data)
        return super().put(data)


async def _inherited(clock: VirtualClock, left: Legacy) -> tuple[MemoryStore, MemoryBlobs, SegmentedKeeper]:
    store, blobs, keeper = MemoryStore(clock=clock), MemoryBlobs(), SegmentedKeeper()
    for data in left.blobs:
        blobs.put(data)
    for kept in left.inputs:
        if keeper.append(kept):
            keeper.rotate()
    at = 0
    epoch = (await store.take(left.records[0].cell)).epoch
    for record in left.records:
        to = record.inputs[INPUT]
        await store.append(
            record.cell, [record.fact], expected=record.version - 1, advance={INPUT: (at, to)}, epoch=epoch
        )
        at = to
    return store, blobs, keeper


def live(world: World, points: Points) -> int | None:
    """Run one agent to the end of the story.

    Returns:
        How many points its start and recovery crossed; None: it died.
    """
    with world.storage() as (store, keeper):
        try:
            return asyncio.run(_live(world, points, store, keeper))
        except Crash:
            return None


async def _live(world: World, points: Points, store: Any, keeper: Any) -> int:
    simulation = Simulation(
        world.configuration,
        seed=0,
        store=CrashingStore(store, points),
        blobs=CrashingBlobs(world.blobs, points),
        keeper=CrashingKeeper(keeper, points),  # type: ignore[arg-type]
        plant=world.plant,
        wrap_robot=lambda robot: CrashingRobot(robot, points),
    )
    # A mutant differs from the product in one method; it needs no wiring of its own.
    simulation.executor.__class__, simulation.service.__class__ = world.executor, world.service
    async with simulation.running():
        await _settled(simulation, points)
        recovered_n = len(points.labels)
        world.plant.resubscribe(simulation.service.epoch)
        until_us = START_US + int(STORY_S * 1e6)
        while not _over(world, simulation) and simulation.clock.now_us() < until_us:
            _break_something(world)
            await simulation.step()
            await _settled(simulation, points)
            await _approve(simulation, points)
    return recovered_n


async def _settled(simulation: Simulation, points: Points) -> None:
    await simulation.service.settle()
    if points.dead:
        raise Crash("a wish died")


def _break_something(world: World) -> None:
    if not world.broken and world.plant.clock.now_us() >= START_US + int(FAULT_AT_S * 1e6):
        world.broken = True
        if world.kind == "absent":
            world.plant.station.inject("seized_regulator", 1.0)
        world.plant.station.inject("oil_on_pads", 1.0)


async def _approve(simulation: Simulation, points: Points) -> None:
    """Be the operator, who asks again as long as the command still waits."""
    for command_id, progress in list(simulation.service.state.commands.items()):
        if progress.phase == "awaiting_approval":
            await simulation.service.put(
                OperatorRequested(
                    at=simulation.clock.now_us(),
                    request_id=f"approve-{command_id}",
                    who="operator",
                    kind="approve",
                    target=command_id,
                    command_sha256=progress.sha256,
                )
            )
            await _settled(simulation, points)


def _over(world: World, simulation: Simulation) -> bool:
    state = simulation.service.state
    if not world.broken or not state.incident_of or state.commands or state.notifications:
        return False
    return not state.incidents if world.kind == "effective" else any(i.escalation for i in state.incidents.values())


def points_of(kind: Kind, folder: Path | None = None) -> tuple[list[str], int]:
    """Return the labels of all points of an uncrashed story, and how many belong to its start."""
    made, points = world(kind, folder), Points()
    started_n = live(made, points)
    assert started_n is not None
    assert violations(made) == []
    return points.labels, started_n


def crash_once(kind: Kind, at: int, folder: Path | None = None) -> tuple[list[str], int]:
    """Crash at one point, start again, go on to the end; returns violations, and how many points recovery crossed."""
    made = world(kind, folder)
    if live(made, Points(at)) is not None:
        return [f"point {at} was not crossed"], 0
    recovered_n = live(made, Points())
    return violations(made), recovered_n or 0


def crash_twice(kind: Kind, at: int, again: int, folder: Path | None = None) -> list[str]:
    """Crash at one point, and at another one while recovering from that; returns violations."""
    made = world(kind, folder)
    for point in (at, again):
        if live(made, Points(point)) is not None:
            return [f"point {point} was not crossed"]
    live(made, Points())
    return violations(made)


def quieten() -> None:
    """Log nothing: notifications, and wishes that die as they should, are part of every story."""
    logging.disable(logging.CRITICAL)


# ---------------------------------------------------------------- what must hold


def violations(world: World) -> list[str]:
    """Return everything that does not hold at the end of a story; empty: all is well."""
    with world.storage() as (store, keeper):
        records, log_id = asyncio.run(_everything(store))
        inputs = list(keeper.read(after=0))
    found = [*_once(world, records), *_ended(world, records), *_chained(world, records, log_id)]
    return found + _replayed(world, records, inputs)


def _replayed(world: World, records: list[Recorded], inputs: list[Kept]) -> list[str]:
    """Replay from the first snapshot on, if there is one, else from the beginning."""
    derivation = Derivation(world.configuration.rules_for(world.configuration.plant.cells[0]))
    snapshots = [n for n, record in enumerate(records, 1) if isinstance(record.fact, facts.DetectorSnapshotted)]
    begin = snapshots[0] if snapshots else 0
    left, _ = rebuild(derivation, world.blobs, records[:begin], lambda after: iter(inputs[after:]))
    replayed = replay(records[begin:], left, derivation=derivation)
    derived_n = sum(record.type in DERIVED_NAMES for record in records[begin:])
    if replayed.divergence is not None:
        return [f"replay: {replayed.divergence}"]
    if replayed.facts_compared != derived_n:
        return [f"replay compared {replayed.facts_compared} of {derived_n} facts"]
    return []


async def _everything(store: Any) -> tuple[list[Recorded], str]:
    return [record async for record in store.read_all()], (await store.head()).log_id


def _once(world: World, records: Sequence[Recorded]) -> list[str]:
    said = [record.fact for record in records]
    return once(said, world.wire.told, world.wire.effects)


def once(said: Sequence[AnyFact], told: Sequence[tuple[str, str, int, str]], effects: Counter[str]) -> list[str]:
    """Compare the log with what arrived at the PLC: nothing unannounced, nothing twice, nothing without an end."""
    found = []
    intended = {f.command.command_id for f in said if isinstance(f, facts.CommandIntended)}
    ended = Counter(
        f.command_id
        for f in said
        if isinstance(f, facts.CommandCompleted | facts.CommandFailed | facts.CommandUnresolved)
    )
    completed = {f.command_id for f in said if isinstance(f, facts.CommandCompleted)}
    proven = Counter(f.command_id for f in said if isinstance(f, facts.EffectVerified | facts.EffectAbsent))
    found += [f"{c} was sent and never intended" for _, c, _, _ in told if c not in intended]
    found += [f"{c} ended {ended[c]} times" for c in intended if ended[c] != 1]
    found += [f"{c} was proven {n} times" for c, n in proven.items() if n != 1]
    found += [f"{c} acted {n} times" for c, n in effects.items() if n > 1]
    found += [f"{c} is completed and acted {effects[c]} times" for c in completed if effects[c] != 1]
    found += [f"{c} acted and is not completed" for c, n in effects.items() if n and c not in completed]
    may_have_left: set[str] = set()
    for what, command_id, _, state in told:
        if what == "execute":
            if command_id in may_have_left:
                found.append(f"{command_id} was sent again without asking")
            may_have_left.add(command_id)
        elif state == "NEVER_SEEN":
            may_have_left.discard(command_id)
    for kind, ids in (
        ("incident", [f.incident_id for f in said if isinstance(f, facts.IncidentOpened)]),
        ("plan", [f.plan_id for f in said if isinstance(f, facts.PlanProposed)]),
        ("approval", [f.command_id for f in said if isinstance(f, facts.ApprovalGranted)]),
    ):
        found += [f"{kind} {key} is there {n} times" for key, n in Counter(ids).items() if n > 1]
    return found


def _ended(world: World, records: Sequence[Recorded]) -> list[str]:
    plc, said = world.plant.station.plc, [record.fact for record in records]
    found = []
    present = (plc.setpoints.grip_force_n, plc.setpoints.motion_speed_pct, plc.state)
    if present != ENDS[world.kind]:
        found.append(f"the cell ended at {present}, not at {ENDS[world.kind]}")
    if world.kind == "effective":
        closed = [f.outcome for f in said if isinstance(f, facts.IncidentClosed)]
        if closed != ["effective"]:
            found.append(f"incidents closed as {closed}")
    elif sum(isinstance(f, facts.IncidentEscalated) for f in said) != 1:
        found.append("the incident was not escalated once")
    if any(isinstance(f, facts.AutomationSwitched) for f in said):
        found.append("automation was switched")
    return found


def _chained(world: World, records: Sequence[Recorded], log_id: str) -> list[str]:
    if world.folder is not None:
        verification = verify(world.folder / "log")
        return [] if verification.ok else [f"verify: {verification}"]
    return [] if chain_holds(records, log_id) else ["the chain is broken"]


def chain_holds(records: Sequence[Recorded], log_id: str) -> bool:
    """Whether the records are gapless and each is linked to the one before; for one cell's log."""
    chain = genesis(log_id)
    for number, r in enumerate(records, 1):
        inputs = msgspec.json.encode(dict(r.inputs))
        chain = link(chain, r.position, r.cell.encode(), number, r.type.encode(), r.recorded_at, inputs, r.data)
        if chain != r.chain or (r.position, r.version) != (number, number):
            return False
    return True
