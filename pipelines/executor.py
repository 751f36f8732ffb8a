"""Fulfils the wishes that reach a machine: snapshot, send, query, read-back, re-baseline.

A send happens once per intent. When no answer comes the outcome is unknown: the fence is raised and the robot is asked;
nothing is sent again before it has said that it never saw the command. The off switch is looked at once more directly
before each send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.asking.following import setpoint_tags
from agent.cell import CellState
from agent.effects import Dispatch, Effect, QueryCommand, ReadBack, ReadSetpoints, TakeSnapshot
from agent.guard.interlocks import snapshot_tags
from agent.guard.question import Rulebook
from agent.ports import Clock, Notifier, Reasoner, Robot
from pipelines.advising import Advisor
from schemas.catalogue import Action
from schemas.commands import Command, Reading
from schemas.errors import ConnectionFault
from schemas.facts import AnyFact, CommandAnswered, ReadbackTaken, SnapshotTaken
from schemas.outcomes import NotSent, Outcome, Unknown
from schemas.plans import Post
from schemas.samples import Input

READBACK_PAUSE_S = 0.005
"""Wall time between two read-backs of a set-point that is not yet as asked."""
QUERY_TIMEOUT_S = 2.0
SESSION_S = 5.0
"""Wall time for which a read is tried again while there is no connection: after a restart it is still being opened, and
what was approved before must not be lost to that."""
SESSION_PAUSE_S = 0.05


class Service(Protocol):
    """The cell's decision service, as far as the executor needs it."""

    @property
    def state(self) -> CellState:
        """The present state, for the last look at the off switch."""

    @property
    def epoch(self) -> int:
        """The fence to send with."""

    async def put(self, message: Input | AnyFact) -> None:
        """Hand over the next message."""

    async def raise_epoch(self, reason: str) -> int:
        """Fence everything sent so far."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What can act, and the bounds of waiting for it."""

    robots: Mapping[str, Robot]
    """By robot id."""
    off_file: Path
    readback_s: float


class Executor(Advisor):
    """An advisor that can also act."""

    def __init__(
        self,
        service: Service,
        rules: Rulebook,
        clock: Clock,
        machines: Machines,
        reasoners: Mapping[Post, Reasoner],
        notifiers: Sequence[Notifier],
    ) -> None:
        super().__init__(service, rules.cell, clock, reasoners, notifiers)
        self._service, self._rules, self._machines = service, rules, machines
        self._unanswered: dict[str, int] = {}
        """Commands that may still be on their way, with the epoch that they were sent under."""

    def work_for(self, effect: Effect) -> Coroutine[Any, Any, None] | None:
        """Return what fulfils a wish. `VerifyEffect` needs nothing: the rows come by themselves."""
        match effect:
            case TakeSnapshot():
                return self._snapshot(effect)
            case ReadSetpoints():
                return self._setpoints(effect)
            case Dispatch():
                return self._dispatch(effect)
            case QueryCommand():
                return self._query(effect)
            case ReadBack():
                return self._read_back(effect)
            case _:
                return super().work_for(effect)

    def _robot(self, action: Action | None) -> Robot | None:
        return self._machines.robots.get(action.robot) if action is not None else None

    async def _snapshot(self, effect: TakeSnapshot) -> None:
        name = effect.action or self._rules.hold_action
        action = self._rules.catalogue.action(name)
        wanted = {action.robot: snapshot_tags(self._rules.cell, action)} if action is not None else {}
        await self._seen(effect.subject_id, wanted, f"no robot does {name!r}")

    async def _setpoints(self, effect: ReadSetpoints) -> None:
        await self._seen(
            effect.subject_id, setpoint_tags(self._rules), "there is no robot for every set-point of the cell"
        )

    async def _seen(self, subject_id: str, wanted: Mapping[str, Sequence[str]], failure: str) -> None:
        """Read these tags by robot, all or none, for as long as a session may still be opened; bring them back."""
        read_at, until = self._clock.now_us(), _now_s() + SESSION_S
        readings: dict[str, Reading] = {}
        while wanted and all(robot in self._machines.robots for robot in wanted):
            read_at = self._clock.now_us()
            try:
                for robot, tags in wanted.items():
                    readings |= await self._machines.robots[robot].snapshot(tags)
                failure = ""
                break
            except ConnectionFault as error:
                readings, failure = {}, str(error)
            if _now_s() >= until:
                break
            await asyncio.sleep(SESSION_PAUSE_S)
        await self.deliver(
            SnapshotTaken(
                at=self._clock.now_us(),
                subject_id=subject_id,
                read_at=read_at,
                readings=readings,
                off_file=self._machines.off_file.exists(),
                failure=failure,
            )
        )

    async def _dispatch(self, effect: Dispatch) -> None:
        action = self._rules.catalogue.action(effect.command.action)
        robot = self._robot(action)
        off = self._off() or self._waited(effect.command.command_id)
        outcome: Outcome
        if off or action is None or robot is None:
            outcome = NotSent(off or "no robot for it")
        else:
            doubtful = effect.command.command_id in self._unanswered
            self._unanswered[effect.command.command_id] = self._service.epoch
            outcome = await robot.execute(
                effect.command,
                command_sha256=effect.sha256,
                epoch=self._service.epoch,
                ttl_s=action.ttl_s,
                timeout_s=action.timeout_s,
            )
            if not (doubtful or isinstance(outcome, Unknown)):
                del self._unanswered[effect.command.command_id]
        await self._answered(effect.command, "send", outcome)

    def _off(self) -> str:
        """The last look before a send; empty if nothing is off."""
        if not self._service.state.automation_on:
            return "automation is switched off"
        return "the off-switch file is there" if self._machines.off_file.exists() else ""

    def _waited(self, command_id: str) -> str:
        """The intent must leave as fresh as the snapshot that it was judged on; empty if it does."""
        progress = self._service.state.commands.get(command_id)
        age_s = (self._clock.now_us() - progress.since_at) / 1e6 if progress is not None else 0.0
        limit_s = self._rules.policy.snapshot_max_age_s
        return (
            "" if 0.0 <= age_s <= limit_s else f"the snapshot is {age_s:.1f} s old by now, allowed are 0..{limit_s:g} s"
        )

    async def _query(self, effect: QueryCommand) -> None:
        """Raise the fence if it may still be on its way, then ask."""
        command = effect.command
        if self._unanswered.get(command.command_id) == self._service.epoch:
            await self._service.raise_epoch(f"outcome of {command.command_id} is unknown")
        robot = self._robot(self._rules.catalogue.action(command.action))
        outcome: Outcome = NotSent("no robot for it")
        if robot is not None:
            outcome = await robot.query(command.command_id, epoch=self._service.epoch, timeout_s=QUERY_TIMEOUT_S)
        await self._answered(command, "query", outcome)

    async def _answered(self, command: Command, by: str, outcome: Outcome) -> None:
        fact = CommandAnswered(
            at=self._clock.now_us(),
            command_id=command.command_id,
            by="send" if by == "send" else "query",
            outcome=outcome,
        )
        await self.deliver(fact)

    async def _read_back(self, effect: ReadBack) -> None:
        """Read until every set-point is as asked or `readback_s` is up, counted from when anything could be read."""
        action = self._rules.catalogue.action(effect.command.action)
        robot = self._robot(action)
        if action is None or robot is None:  # the configuration is another one since it was sent
            gone = f"{effect.command.action!r} or its robot is no longer configured"
            await self._read(effect.command, {}, gone)
            return
        readings: Mapping[str, Reading] = {}
        failure, until = "", _now_s() + SESSION_S
        tags = [argument.tag for argument in action.args]
        while tags:
            try:
                connected_before = bool(readings)
                readings, failure = await robot.snapshot(tags), ""
                until = until if connected_before else _now_s() + self._machines.readback_s
            except ConnectionFault as error:
                failure = str(error)
            if _as_asked(action, effect.command, readings) or _now_s() >= until:
                break
            await asyncio.sleep(READBACK_PAUSE_S)
        await self._read(effect.command, readings, failure)

    async def _read(self, command: Command, readings: Mapping[str, Reading], failure: str) -> None:
        fact = ReadbackTaken(
            at=self._clock.now_us(), command_id=command.command_id, readings=dict(readings), failure=failure
        )
        await self.deliver(fact)


def _now_s() -> float:
    """Wall time, as the event loop counts it."""
    return asyncio.get_running_loop().time()


def _as_asked(action: Action, command: Command, readings: Mapping[str, Reading]) -> bool:
    for argument in action.args:
        reading = readings.get(argument.tag)
        if reading is None or not reading.good or reading.value is None:
            return False
        if not abs(reading.value - command.args.get(argument.name, float("nan"))) <= argument.tolerance:
            return False
    return True
