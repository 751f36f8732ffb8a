"""`right_plans.toml` is true of the simulated cell: right plans mend, and no other single action does."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from connectors.clock import VirtualClock
from connectors.plant.codes import State
from connectors.plant.configuration import demo_cell
from connectors.plant.conveyor import THERMAL_S
from connectors.plant.direct import DirectPlant
from connectors.plant.faults import SENSOR_FAULTS


def packaged(name):
    return tomllib.loads(resources.files("connectors.plant").joinpath(f"config/{name}").read_text())


TABLE = packaged("right_plans.toml")["faults"]
VERBS = {
    a["name"]: (a["binding"]["verb"], [x["tag"] for x in a.get("args", [])])
    for a in packaged("catalogue.toml")["actions"]
}
LIMITS = {tag.name: tag.limits for tag in demo_cell().tags if tag.limits is not None and tag.minus is None}
PHYSICAL = [row for row in TABLE if not set(row["faults"]) & set(SENSOR_FAULTS)]
SINGLE = ["set_grip_force 40", "set_motion_speed 50", "set_conveyor_speed 60", "clean_pads", "change_pads"]


def label(row):
    return "+".join(row["faults"])


def do(plant, actions):
    plc = plant.station.plc
    for i, action in enumerate(actions):
        name, *values = action.split()
        verb, tags = VERBS[name]
        old = [plant.station.publisher.image[tag].value for tag in tags]
        answer = plc.execute(f"c{i}", 1, "0" * 64, verb, [float(v) for v in values], old, 10_000)
        assert answer.state in (State.DONE, State.RUNNING), answer


def within_limits(plant):
    """Ten cycles of contact physics, then three thermal time constants of the drive by its exact model."""
    scrap = plant.station.plc.scrap_count
    for _ in range(10):
        plant.run_cycle()
        shown = {name: plant.station.publisher.image[name].value for name in LIMITS}
        if not all(
            (x.low is None or x.low < shown[n]) and (x.high is None or shown[n] < x.high) for n, x in LIMITS.items()
        ):
            return False
    growth, most = plant.station.cell.faults.drag()
    speed_pct = plant.station.plc.setpoints.conveyor_speed_pct
    conveyor = plant.station.cell.conveyor
    for _ in range(round(3 * THERMAL_S)):
        conveyor.run(1.0, speed_pct=speed_pct, drag_per_s=growth, drag_max=most)
    cool = conveyor.temperature_degc < LIMITS["drive_temperature_degc"].high
    return cool and not conveyor.tripped and plant.station.plc.scrap_count == scrap


def mended(faults, actions, seed=2):
    plant = DirectPlant(demo_cell(), seed, VirtualClock(1_700_000_000_000_000))
    for _ in range(3):
        plant.run_cycle()
    for fault in faults:
        plant.station.inject(fault, 1.0)
    for _ in range(3):
        plant.run_cycle()
    do(plant, actions)
    for _ in range(2):
        plant.run_cycle()
    return within_limits(plant)


@pytest.mark.parametrize("row", PHYSICAL, ids=label)
def test_each_right_plan_mends(row):
    for plan in row["right"]:
        assert mended(row["faults"], plan), plan


@pytest.mark.parametrize("row", PHYSICAL, ids=label)
def test_no_other_single_action_mends_and_neither_does_waiting(row):
    for plan in [[], *([action] for action in SINGLE)]:
        if plan not in row["right"]:
            assert not mended(row["faults"], plan), plan


@pytest.mark.parametrize("row", PHYSICAL, ids=label)
def test_harmless_action_before_a_right_plan_does_not_hinder_it(row):
    for harmless in row["harmless"]:
        if harmless != "hold_cell":
            assert mended(row["faults"], [harmless, *row["right"][0]]), harmless


@pytest.mark.parametrize("row", [r for r in TABLE if r not in PHYSICAL], ids=label)
def test_broken_sensor_needs_no_action_because_the_process_is_well(row):
    plant = DirectPlant(demo_cell(), 2, VirtualClock(0))
    plant.station.inject(row["faults"][0], 1.0)
    plant.run(30)
    assert row["right"] == [[]]
    assert plant.station.plc.scrap_count == 0


def test_faults_of_the_table_are_all_there_are():
    named = {fault for row in TABLE for fault in row["faults"]}
    assert named == {
        "oil_on_pads", "worn_pad", "heavier_part", "drive_drag", "seized_regulator", *SENSOR_FAULTS
    }  # fmt: skip
