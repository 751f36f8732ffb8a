"""The operator socket beside a cell that hangs: the others still hear, and nobody is told that it was taken."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from connectors.clock import VirtualClock
from pipelines import operator_socket
from pipelines.operator_socket import OperatorSocket, call
from pipelines.simulation import START_US, Simulation
from schemas import facts
from tests.support.quick_plant import QUICK, edited, quick_plant

CONFIGURATION = edited(QUICK)


class Hanging:
    """A cell's service whose queue is full and stays so."""

    cell = "a/b/c/d/hanging"

    def __init__(self, derivation):
        self.derivation, self.listeners, self.state = derivation, [], derivation.state

    async def put(self, message):
        await asyncio.Event().wait()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(operator_socket, "ANSWER_S", 1.0)
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def asked(folder: Path, request: dict[str, object]) -> tuple[dict, list[facts.AnyFact]]:
    """Ask a process with a hanging cell and a healthy one; return the answer and the healthy one's facts."""

    async def go():
        plant = quick_plant(CONFIGURATION, VirtualClock(START_US))
        simulation = Simulation(CONFIGURATION, seed=0, plant=plant)
        async with simulation.running():
            services = {
                Hanging.cell: Hanging(simulation.service.derivation),
                simulation.service.cell: simulation.service,
            }
            operators = OperatorSocket(folder / "s", services, simulation.clock, off_file=folder / "OFF")
            await operators.start()
            answer = await asyncio.to_thread(call, folder / "s", request)
            await operators.close()
        return answer, simulation.facts

    return asyncio.run(go())


def test_off_reaches_every_cell_beside_one_that_hangs_and_says_which_did_not_take_it(short):
    """Was: one after the other, each for as long as `ANSWER_S`; and what nobody had taken was called taken."""
    answer, seen = asked(short, {"kind": "off"})
    assert [f.on for f in seen if isinstance(f, facts.AutomationSwitched)] == [False]
    assert json.dumps(answer).count("a/b/c/d/hanging: not taken, its queue stayed full within 1 s") == 1
