"""Restarts with the same, another and a broken configuration: the record goes on, and replay agrees across them.

Plant and agent share one process and one virtual clock; a restart is a new agent on the store, blobs and input.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from pipelines.config import Configuration, load, parse
from pipelines.detectors.calibration import FILE as CALIBRATION
from pipelines.detectors.calibration import GroupNormal, encode_calibration
from pipelines.replaying import replay_cell
from pipelines.simulation import Simulation
from schemas import facts
from schemas.samples import Kept
from tests.support.demo import CELL, CONFIG

WARM_UP_ROWS = 20
LEARNT_S, SOON_S = 120.0, 60.0


@cache
def base() -> Configuration:
    """The demo's configuration with a short lesson."""
    return changed("plant.toml", "warm_up_rows = 60", f"warm_up_rows = {WARM_UP_ROWS}", of=load(CONFIG))


def changed(name: str, old: str, new: str, *, of: Configuration | None = None) -> Configuration:
    """A configuration with one file edited, as an engineer would."""
    known = of or base()
    text = known.files[name].decode()
    assert old in text
    files = {**known.files, name: text.replace(old, new).encode()}
    models = {
        "plant.toml": ("plant", type(known.plant)),
        "catalogue.toml": ("catalogue", type(known.catalogue)),
        "policy.toml": ("policy", type(known.policy)),
    }
    field, model = models[name]

    return replace(known, files=files, **{field: parse(name, files, model)})


NORMAL_A = 3.0009765625


@cache
def calibrated() -> Configuration:
    """The drive's current as a historian has it; all else warms up."""
    block = np.linspace(NORMAL_A - 0.1, NORMAL_A + 0.1, 41)[:, None]
    block[20] = NORMAL_A
    normal = GroupNormal("cycle", ("drive_current_a",), ("A",), block, np.ones(1))
    known = base()
    return replace(known, files={**known.files, CALIBRATION: encode_calibration({CELL: [normal]})})


class Site:
    """What outlives an agent: plant, store, blobs and kept input."""

    def __init__(self) -> None:
        self.last: Simulation | None = None

    def agent(self, configuration: Configuration) -> Simulation:
        """A new agent on what is there."""
        before = self.last
        kept = {} if before is None else {
            "store": before.store, "blobs": before.blobs, "keeper": before.keeper, "plant": before.plant,
        }  # fmt: skip
        self.last = Simulation(configuration, seed=1, **kept)
        return self.last

    async def records(self):
        return [record async for record in self.last.store.read_cell(CELL)]

    async def replayed(self):
        def read(after: int) -> list[Kept]:
            return self.last.keeper.read(after=after)

        return replay_cell(await self.records(), read, self.last.blobs, CELL)


async def story(first: Configuration, second: Configuration, *, fault: str = "", behind_s: float = 5.0):
    """Learn, break something if asked, end while input waits behind the last fact; go on with another configuration."""
    site = Site()
    agent = site.agent(first)
    async with agent.running():
        await agent.run_for(LEARNT_S)
        if fault:
            agent.plant.station.inject(fault, 1.0, "")
            await agent.run_for(behind_s)
    agent = site.agent(second)
    async with agent.running():
        await agent.run_for(SOON_S)
    return site


def of(records, kind):
    return [record.fact for record in records if isinstance(record.fact, kind)]


CHANGES = {
    "the same": base,
    "another policy": lambda: changed("policy.toml", "commands_per_hour = 20", "commands_per_hour = 19"),
    "another catalogue": lambda: changed("catalogue.toml", "cooldown_s = 20", "cooldown_s = 21"),
    "another limit": lambda: changed("plant.toml", "limits = { high = 2.0 }", "limits = { high = 0.02 }"),
    "another lateness": lambda: changed("plant.toml", "lateness_s = 2.0", "lateness_s = 3.0"),
}


@pytest.mark.parametrize("fault", ["", "oil_on_pads"])
@pytest.mark.parametrize("change", CHANGES)
def test_replay_comes_to_the_same_facts_across_a_restart_with(change, fault):
    async def go():
        site = await story(base(), CHANGES[change](), fault=fault)
        return await site.records(), await site.replayed()

    records, replayed = asyncio.run(go())
    assert replayed.divergence is None
    started = of(records, facts.AgentStarted)
    assert [fact.epoch for fact in started] == [1, 2]
    assert [record.version for record in records] == list(range(1, len(records) + 1))
    assert replayed.facts_compared >= 2


@pytest.mark.parametrize(("before", "after"), [(base, calibrated), (calibrated, base)])
def test_a_calibration_is_a_fact_and_replay_agrees_across_its_coming_and_going(before, after):
    async def go():
        site = await story(before(), after())
        (watch, _) = site.last.service.derivation.detection.suite.watches
        normal = watch.baseline.centre[watch.columns.names.index("drive_current_a")]
        return await site.records(), await site.replayed(), float(normal)

    records, replayed, normal = asyncio.run(go())
    adopted = of(records, facts.ConfigAdopted)
    assert [fact.name for fact in adopted].count(CALIBRATION) == 1
    learnt = [(fact.group, fact.rows) for fact in of(records, facts.CalibrationAdopted)]
    # Behind a restart the kept input is gone over again with it: what follows from it is in force, not told once more.
    assert learnt.count(("cycle", 41)) == (before is calibrated)
    assert (normal == NORMAL_A) == (after is calibrated)
    assert replayed.divergence is None
    assert replayed.facts_compared >= 2


@pytest.mark.parametrize("change", ["the same", "another policy", "another catalogue"])
def test_detectors_go_on_where_they_were_after_a_restart_with(change):
    async def go():
        return await (await story(base(), CHANGES[change]())).records()

    records = asyncio.run(go())
    assert [fact.group for fact in of(records, facts.CalibrationAdopted)].count("cycle") == 1
