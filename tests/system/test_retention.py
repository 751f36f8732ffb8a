"""Bounded retention: segments rotate with a snapshot, old ones go, incidents' windows stay, and replay knows both."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import polars as pl
import pytest

from connectors.clock import SystemClock, VirtualClock
from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.segment_reading import read_kept, segment_starts, stretches
from connectors.eventlog.sqlite import SqliteStore
from connectors.plant.direct import DirectPlant
from pipelines.exporting import export
from pipelines.hosting import Folders
from pipelines.log_place import LogPlace
from pipelines.pins import STILL_OPEN, Pins
from pipelines.replaying import replay_folder
from pipelines.runner import FolderKeeper
from pipelines.simulation import Simulation
from schemas import facts
from schemas.errors import LogError
from tests.support.bench import jidoka_process
from tests.support.demo import CELL
from tests.system.test_restart import base, changed

BYTES_MAX, KEEP_BYTES = 20_000, 400_000
AT = 1_700_000_000_000_000


def opened(incident: str) -> facts.IncidentOpened:
    return facts.IncidentOpened(at=AT, incident_id=incident, episode_id="e", kind="process", asset="gripper")


def closed(incident: str) -> facts.IncidentClosed:
    return facts.IncidentClosed(at=AT, incident_id=incident, outcome="cleared")


def test_pin_holds_from_where_an_incident_opened_to_where_it_closed():
    pins = Pins()
    assert list(pins()) == []
    pins.see([opened("a")], 10)
    assert list(pins()) == [(10, STILL_OPEN)]
    pins.see([opened("b")], 12)
    pins.see([closed("a")], 20)
    assert list(pins()) == [(10, 20), (12, STILL_OPEN)]


def test_closing_of_an_incident_that_nobody_saw_open_pins_nothing():
    pins = Pins()
    pins.see([closed("a")], 20)
    assert list(pins()) == []


def test_facts_in_one_append_pin_from_the_input_at_which_they_were_appended():
    pins, position = Pins(), 41
    listen = pins.follow(lambda: position)
    position = 42
    listen([opened("a"), closed("a")])
    assert list(pins()) == [(42, 42)]


class Plant:
    """A data folder with a plant in memory that outlives its agents."""

    def __init__(self, data: Path) -> None:
        self.folders = Folders(data)
        self.folders.data.mkdir(exist_ok=True)
        self.plant = None
        self.pins = Pins()

    async def run(self, story, configuration=None, **changes):
        """Run an agent through a story; returns the cell's records."""
        configuration = configuration or base()
        store = SqliteStore.open(self.folders.log, clock=SystemClock())
        self.pins = Pins()
        await self.pins.recall(store.read_cell(CELL))
        cell = configuration.plant.cells[0]
        keeper = FolderKeeper(
            self.folders.segments(cell), cell=CELL, bytes_max=BYTES_MAX, keep_bytes=KEEP_BYTES, pins=self.pins
        )
        blobs = FileBlobs(self.folders.blobs)
        agent = Simulation(configuration, seed=1, store=store, blobs=blobs, keeper=keeper, plant=self.plant)
        self.plant = agent.plant
        agent.service.listeners.append(self.pins.follow(lambda: keeper.position))
        try:
            async with agent.running():
                await story(agent)
            return [record async for record in store.read_cell(CELL)]
        finally:
            keeper.close()
            await store.close()

    @property
    def segments(self) -> Path:
        return self.folders.segments(base().plant.cells[0])


async def healthy(agent):
    await agent.run_for(600.0)


async def two_incidents(agent):
    """One that closes, much later one that stays open."""
    await agent.run_for(150.0)
    agent.plant.station.inject("stuck_sensor", 1.0, "part_slip_mm")
    await agent.run_for(120.0)
    agent.plant.station.clear_faults()
    await agent.run_for(700.0)
    agent.plant.station.inject("stuck_sensor", 1.0, "lift_current_a")
    await agent.run_for(60.0)


def of(records, kind):
    return [record.fact for record in records if isinstance(record.fact, kind)]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A run with an incident early on and one at the end, longer than is kept."""
    site = Plant(tmp_path_factory.mktemp("long"))
    return site, asyncio.run(site.run(two_incidents))


def test_segments_rotate_each_with_a_snapshot_that_is_a_blob(long_run):
    site, records = long_run
    snapshots = of(records, facts.DetectorSnapshotted)
    assert len(snapshots) > KEEP_BYTES / BYTES_MAX
    begun = {fact.position + 1 for fact in snapshots}
    assert set(segment_starts(site.segments)) - {1} <= begun
    blobs = FileBlobs(site.folders.blobs)
    assert all(blobs.get(fact.sha256) for fact in snapshots)


def test_old_segments_are_deleted_but_an_incident_s_window_is_kept(long_run):
    site, records = long_run
    assert len(of(records, facts.IncidentClosed)) == 1
    kept = stretches(site.segments)
    assert len(kept) == 2, "one stretch for the incident, one for the present"
    window, present = site.pins()
    assert present[1] == STILL_OPEN
    assert kept[1].first <= present[0]
    assert kept[0].first <= window[0] <= window[1] <= kept[0].last
    positions = [k.position for k in read_kept(site.segments, after=window[0] - 1, until=window[1])]
    assert positions == list(range(window[0], window[1] + 1))
    assert unpinned_bytes(site.segments, site.pins()) < KEEP_BYTES + 2 * BYTES_MAX


def unpinned_bytes(folder, pins):
    """What the files take that hold no position of `pins`."""
    starts = segment_starts(folder)
    ends = [*starts[1:], STILL_OPEN]
    free = [a for a, b in zip(starts, ends, strict=True) if not any(first < b and a <= last for first, last in pins)]
    return sum((folder / f"segment-{start:020d}.jk").stat().st_size for start in free)


def test_replay_re_runs_every_stretch_that_is_kept_from_its_snapshot(long_run):
    site, records = long_run
    replayed = replay_folder(site.folders, records, CELL)
    assert replayed.divergence is None
    assert len(replayed.spans) == 2
    assert replayed.incidents == {fact.incident_id for fact in of(records, facts.IncidentOpened)}
    everything = sum(not isinstance(r.fact, facts.External) for r in records)
    assert replayed.facts_compared + replayed.left_out == everything


def test_replay_says_what_it_could_not_re_run(long_run):
    site, _ = long_run
    said = jidoka_process("replay", "run", "--data", site.folders.data)
    assert said.status == 0, said
    assert "were not re-run, since their input is not kept any more; re-run were records" in said.out
    assert "the same, byte for byte" in said.out


def test_export_takes_every_stretch_that_is_kept(long_run, tmp_path):
    site, records = long_run
    exported = asyncio.run(export(LogPlace(site.folders), tmp_path / "out"))
    assert exported.facts == len(records)
    positions = pl.read_parquet(tmp_path / "out" / "samples.parquet")["position"].unique().to_list()
    for stretch in stretches(site.segments):
        assert any(stretch.first <= p <= stretch.last for p in positions)


def test_replay_of_a_stretch_finds_a_fact_that_does_not_follow(long_run):
    site, records = long_run
    index = next(i for i, r in enumerate(records) if isinstance(r.fact, facts.IncidentOpened))
    forged = facts.encode(msgspec.structs.replace(records[index].fact, asset="drive"))
    edited = [*records[:index], replace(records[index], data=forged), *records[index + 1 :]]
    replayed = replay_folder(site.folders, edited, CELL)
    assert replayed.divergence is not None
    assert replayed.divergence.position == records[index].position


def test_agent_goes_on_from_its_last_snapshot_when_the_first_segments_are_gone(long_run, tmp_path):
    site = copied(long_run[0], tmp_path)
    records = asyncio.run(site.run(healthy))
    assert [f.group for f in of(records, facts.CalibrationAdopted)].count("cycle") == 1
    assert [f for f in of(records, facts.OperatorRequested) if f.who == "agent"] == []
    assert replay_folder(site.folders, records, CELL).divergence is None


def test_changed_plant_warms_up_again_with_automation_off_when_not_all_input_is_kept(long_run, tmp_path):
    site, before_n = copied(long_run[0], tmp_path), len(long_run[1])
    changed_plant = changed("plant.toml", "lateness_s = 2.0", "lateness_s = 3.0")
    records = asyncio.run(site.run(healthy, changed_plant))
    after = records[before_n:]
    (off,) = of(after, facts.OperatorRequested)
    assert (off.who, off.kind, "snapshot" in off.reason) == ("agent", "off", True)
    assert [fact.on for fact in of(after, facts.AutomationSwitched)] == [False]
    assert "cycle" in [fact.group for fact in of(after, facts.CalibrationAdopted)]
    replayed = replay_folder(site.folders, records, CELL)
    assert replayed.divergence is None
    assert replayed.spans[-1][1] > before_n


def test_lost_snapshots_make_the_agent_warm_up_again_and_replay_agrees(long_run, tmp_path):
    site, before_n = copied(long_run[0], tmp_path), len(long_run[1])
    blobs = FileBlobs(site.folders.blobs)
    for fact in of(long_run[1], facts.DetectorSnapshotted):
        path = next(p for p in site.folders.blobs.rglob("*") if p.is_file() and fact.sha256.endswith(p.name[-10:]))
        path.unlink()
        with pytest.raises(KeyError):
            blobs.get(fact.sha256)
    records = asyncio.run(site.run(healthy))
    assert [f.kind for f in of(records[before_n:], facts.OperatorRequested)] == ["off"]
    replayed = replay_folder(site.folders, records, CELL)
    assert replayed.divergence is None
    assert replayed.spans[-1][1] > before_n
    assert replayed.left_out > 0


def test_replay_without_any_kept_input_is_an_error_that_names_the_folder(long_run, tmp_path):
    site = copied(long_run[0], tmp_path)
    shutil.rmtree(site.segments)
    with pytest.raises(LogError, match=r"restore the folder segments/"):
        replay_folder(site.folders, long_run[1], CELL)


def copied(site: Plant, folder: Path) -> Plant:
    """A copy of a site whose plant stands at a fresh start: the agent cannot tell."""
    data = folder / "agent"
    shutil.copytree(site.folders.data, data)
    copy = Plant(data)
    copy.plant = fresh_plant(site)
    return copy


def fresh_plant(site: Plant) -> DirectPlant:
    """A healthy plant, a minute later."""
    return DirectPlant(base().plant.cells[0], 2, VirtualClock(site.plant.clock.now_us() + 60_000_000))
