"""The plant itself: what is equal, what each fault shows, and that it shows nothing else."""

from __future__ import annotations

import math

import pytest

from connectors.plant.cell import Cell, CycleReport, Setpoints
from connectors.plant.conveyor import Conveyor
from connectors.plant.faults import PLANT_FAULTS, SEVERITY_MAX, Faults

HEALTHY = Setpoints()


def run(cell, n=6, setpoints=HEALTHY):
    return [cell.cycle(setpoints) for _ in range(n)][-1]


def broken(*faults, seed=3, severity=1.0):
    cell = Cell(seed)
    for fault in faults:
        cell.inject(fault, severity, "", setpoints=HEALTHY)
    return cell


def test_equal_seeds_and_equal_set_points_per_cycle_give_equal_reports():
    a, b = Cell(7), Cell(7)
    for k in range(12):
        setpoints = HEALTHY if k < 6 else Setpoints(grip_force_n=40.0, motion_speed_pct=50.0)
        if k == 4:
            a.inject("oil_on_pads", 1.0, "", setpoints=setpoints)
            b.inject("oil_on_pads", 1.0, "", setpoints=setpoints)
        assert a.cycle(setpoints) == b.cycle(setpoints)


def test_other_seed_gives_other_reports():
    assert Cell(7).cycle(HEALTHY) != Cell(8).cycle(HEALTHY)


def test_fault_of_severity_zero_is_no_fault():
    assert run(broken(*PLANT_FAULTS, severity=0.0)) == run(Cell(3))


def test_healthy_cell_is_well_within_its_limits():
    last = run(Cell(3))
    assert last.good
    assert last.part_slip_mm < 0.3
    assert last.lift_current_a == pytest.approx(3.0, abs=0.1)
    assert last.drive_temperature_degc == pytest.approx(60.0, abs=1.0)
    assert last.took_s == 2.7


# Tag and least deviation from a healthy cell of the same seed; what is not named stays within 10 times its noise.
SIGNATURES = {
    "oil_on_pads": {"part_slip_mm": 2.0, "lift_current_a": -0.2, "lift_peak_a": -0.2},
    "worn_pad": {"part_slip_mm": 2.0, "finger_position_mm": 1.2, "lift_current_a": -0.2, "lift_peak_a": -0.2},
    "heavier_part": {"part_slip_mm": 2.0, "lift_peak_a": 0.8},
    "drive_drag": {"drive_current_a": 0.15},
    "seized_regulator": {},
}
NOISE = {
    "grip_force_n": 0.05, "grip_current_a": 0.01, "finger_position_mm": 0.02, "lift_current_a": 0.01,
    "lift_peak_a": 0.02, "part_slip_mm": 0.05, "drive_current_a": 0.03, "drive_temperature_degc": 0.1,
    "cycle_time_s": 0.004,
}  # fmt: skip
AMBIGUOUS = {("heavier_part", "lift_current_a")}
"""The RMS rises by the weight and falls when the part is lost: it says nothing, which is why the peak is latched."""


@pytest.mark.parametrize("fault", PLANT_FAULTS)
def test_each_fault_shows_its_signature_and_nothing_else(fault):
    n = 16 if fault == "drive_drag" else 5
    well, ill = run(Cell(3), n), run(broken(fault), n)
    for tag, noise in NOISE.items():
        if (fault, tag) in AMBIGUOUS:
            continue
        deviation = getattr(ill, tag) - getattr(well, tag)
        least = SIGNATURES[fault].get(tag)
        if least is None:
            assert abs(deviation) < 10 * noise, tag
        else:
            assert deviation / least >= 1.0, (tag, deviation)


def test_seized_regulator_shows_only_when_the_set_point_moves():
    last = run(broken("seized_regulator"), setpoints=Setpoints(grip_force_n=40.0))
    assert last.setpoints.grip_force_n == 40.0
    assert last.grip_force_n == pytest.approx(15.0, abs=0.3)


def test_two_faults_at_once_show_both():
    last = run(broken("oil_on_pads", "drive_drag"), 16)
    assert last.part_slip_mm > 2.0
    assert last.drive_current_a > 3.15


def test_cleaning_takes_oil_away_and_leaves_wear():
    cell = broken("oil_on_pads", "worn_pad")
    cell.faults.clean_pads()
    assert run(cell).part_slip_mm > 2.0
    cell.faults.change_pads()
    assert run(cell).part_slip_mm < 0.5


def test_oil_of_severity_1_2_is_beyond_40_newton():
    assert run(broken("oil_on_pads"), setpoints=Setpoints(grip_force_n=40.0)).part_slip_mm < 2.0
    assert run(broken("oil_on_pads", severity=1.2), setpoints=Setpoints(grip_force_n=40.0)).part_slip_mm > 2.0


def test_drive_that_drags_trips_when_nothing_is_done():
    cell = broken("drive_drag")
    cell.conveyor.run(1200.0, speed_pct=100.0, drag_per_s=0.006, drag_max=1.9)
    last = run(cell, 1)
    assert (last.tripped, last.good) == (True, False)
    cell.clear_faults()
    cell.stand(3600.0)
    assert not run(cell, 1).tripped


def test_thermal_model_is_exact_for_any_step():
    once, often = Conveyor(), Conveyor()
    once.run(100.0, speed_pct=80.0, drag_per_s=0.0, drag_max=1.0)
    for _ in range(1000):
        often.run(0.1, speed_pct=80.0, drag_per_s=0.0, drag_max=1.0)
    assert once.temperature_degc == pytest.approx(often.temperature_degc, abs=1e-9)


@pytest.mark.parametrize("severity", [-0.1, math.nextafter(SEVERITY_MAX, 3.0), math.nan, math.inf])
def test_severity_outside_its_range_is_refused(severity):
    with pytest.raises(ValueError, match="severity"):
        Faults.none().inject("oil_on_pads", severity, "", grip_force_n=15.0)


def test_unknown_fault_is_refused_naming_those_that_exist():
    with pytest.raises(ValueError, match="oil_on_pads, worn_pad"):
        Faults.none().inject("rust", 1.0, "", grip_force_n=15.0)


def test_report_has_no_field_that_nobody_publishes():
    unpublished = {"took_s", "setpoints", "good", "tripped"}
    assert set(NOISE) | unpublished == set(CycleReport.__dataclass_fields__)
