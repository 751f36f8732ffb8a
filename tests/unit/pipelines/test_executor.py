"""What the executor does about a robot that cannot be reached yet, and about a wish that breaks."""

from __future__ import annotations

import asyncio
import logging

import pytest

from connectors.clock import VirtualClock
from pipelines import executor
from pipelines.simulation import START_US, Simulation
from schemas import facts
from schemas.errors import ConnectionFault
from tests.support.quick_plant import QUICK, edited, quick_plant

REACHED_S = 20.0
READBACK_S = 0.05
CONFIGURATION = edited((*QUICK, ("jidoka.toml", 'data = "var"', f'data = "var"\nreadback_s = {READBACK_S}')))


class Unreachable:
    """A robot whose session is still being opened for the first snapshots."""

    def __init__(self, robot, faults_n, error=ConnectionFault):
        self._robot, self.faults_n, self._error = robot, faults_n, error

    async def snapshot(self, tags):
        self.faults_n -= 1
        if self.faults_n >= 0:
            raise self._error("no session yet")
        return await self._robot.snapshot(tags)

    def __getattr__(self, name):
        return getattr(self._robot, name)


def _slipping(wrap):
    """Run a cell into oil and return all facts, and the service."""

    async def run():
        plant = quick_plant(CONFIGURATION, VirtualClock(START_US))
        simulation = Simulation(CONFIGURATION, seed=0, plant=plant, wrap_robot=wrap)
        async with simulation.running():
            await simulation.run_for(8.0)
            plant.station.inject("oil_on_pads", 1.0)
            await simulation.run_for(REACHED_S)
        return simulation.facts, simulation.service

    logging.disable(logging.CRITICAL)
    try:
        return asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)


def _results(seen):
    return [type(f) for f in seen if isinstance(f, facts.CommandCompleted | facts.CommandFailed | facts.PlanDropped)]


def test_a_snapshot_waits_for_the_session():
    """Was: refused by freshness.snapshot, and an approved plan was dropped because the agent had just restarted."""
    seen, _ = _slipping(lambda robot: Unreachable(robot, faults_n=2))
    assert _results(seen)[0] is facts.CommandCompleted


def test_a_read_back_waits_for_the_session():
    """Was: failed with `the robot said done, but no session`, of a command that had acted."""
    seen, _ = _slipping(lambda robot: AfterExecute(robot))
    assert _results(seen)[0] is facts.CommandCompleted


def test_a_session_that_is_gone_for_longer_than_a_read_is_tried_does_not_make_a_done_command_fail(monkeypatch):
    """Was: `command.failed` once a read had been tried for `SESSION_S`."""
    monkeypatch.setattr(executor, "SESSION_S", READBACK_S)
    seen, _ = _slipping(lambda robot: AfterExecute(robot))
    assert _results(seen)[0] is facts.CommandCompleted
    assert next(f.failure for f in seen if isinstance(f, facts.ReadbackTaken)) == "no session yet"


class AfterExecute(Unreachable):
    """Loses its session for longer than a read-back may take, right after it has acted."""

    def __init__(self, robot):
        super().__init__(robot, faults_n=0)

    async def execute(self, command, **rest):
        self.faults_n = int(3 * READBACK_S / executor.READBACK_PAUSE_S)
        return await self._robot.execute(command, **rest)


def test_a_robot_that_stays_out_of_reach_is_given_up(monkeypatch):
    monkeypatch.setattr(executor, "SESSION_S", 0.1)
    seen, _ = _slipping(lambda robot: Unreachable(robot, faults_n=10**6))
    assert facts.CommandCompleted not in _results(seen)
    assert any("no session yet" in f.reason for f in seen if isinstance(f, facts.PlanDropped))


def test_a_wish_that_breaks_stops_the_cell():
    """Was: only logged; the command stayed in its phase for ever and the heartbeat went on."""
    with pytest.raises(RuntimeError, match="no session yet"):
        _slipping(lambda robot: Unreachable(robot, faults_n=10**6, error=RuntimeError))
