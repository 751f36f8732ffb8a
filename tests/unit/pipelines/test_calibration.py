"""Calibration from a historian of our own cell, its adoption, and what labels of people change."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.backtest import backtest
from pipelines.calibration.historian import Rows, gather
from pipelines.calibration.labels import read_labels
from pipelines.calibration.normals import find_normal
from pipelines.cli import app
from pipelines.config import load
from pipelines.detectors.calibration import FILE, GroupNormal, encode_calibration, normals_for
from pipelines.detectors.suite import Suite
from schemas.errors import ConfigError, RecordingError
from schemas.facts import CalibrationAdopted
from tests.feeding import Feeder, small_cell
from tests.support.recorded_cell import record

CONFIG = Path(__file__).parents[3] / "connectors" / "plant" / "config"
CYCLES, MILD, SEVERE = 170, range(90, 105), range(135, 150)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A recording with a somewhat heavier part for a while, and with a far too heavy one later."""
    cell = load(CONFIG).plant.cells[0]
    path = tmp_path_factory.mktemp("historian") / "cell1.csv"
    faults = {
        MILD.start: [("heavier_part", 0.35)],
        MILD.stop: [("heavier_part", 0.0)],
        SEVERE.start: [("heavier_part", 1.0)],
        SEVERE.stop: [("heavier_part", 0.0)],
    }
    return cell, path, record(path, cell, CYCLES, faults)


@pytest.fixture
def config(tmp_path):
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def spoken(path: Path, times: list[int], said: dict[str, range], *, tag: str = "") -> Path:
    """Write labels."""
    text = ""
    for alarm, cycles in said.items():
        moments = [datetime.fromtimestamp(times[k] / 1e6, UTC) for k in (cycles.start - 2, cycles.stop + 6)]
        text += f'[[labels]]\nfrom = {moments[0].isoformat()}\nuntil = {moments[1].isoformat()}\nalarm = "{alarm}"\n'
        text += f'who = "m.schmidt"\ntag = "{tag}"\n'
    path.write_text(text)
    return path


def calibrate(*words: object):
    return CliRunner().invoke(app, ["calibrate", *map(str, words)])


def begun(path: Path, times: list[int], config: Path) -> list[tuple[str, int]]:
    """Return tag and cycle of every episode of the next run."""
    configuration = load(config)
    result = backtest([path], cell=configuration.plant.cells[0], calibration=configuration.files.get(FILE, b""))
    assert [each.error for each in result.files] == [""]
    return [(found.tag, int(np.searchsorted(times, found.onset_at))) for found in result.episodes]


def within(found: list[tuple[str, int]], cycles: range) -> list[str]:
    return [tag for tag, cycle in found if cycles.start - 2 <= cycle <= cycles.stop]


def test_alarms_called_false_do_not_come_again_and_true_ones_do(recorded, config, tmp_path):
    _, path, times = recorded
    assert calibrate(path, "--config", config).exit_code == 0
    before = begun(path, times, config)
    assert len(within(before, MILD)) >= 2
    assert "part_slip_mm" in within(before, SEVERE)

    labels = spoken(tmp_path / "labels.toml", times, {"false": MILD, "true": SEVERE})
    said = calibrate(path, "--config", config, "--labels", labels)
    after = begun(path, times, config)
    assert within(after, MILD) == []
    assert "part_slip_mm" in within(after, SEVERE)
    assert "lift_current_a: limit raised" in said.stdout
    assert "a true alarm, people say" in said.stdout


def test_a_limit_is_not_raised_over_an_alarm_that_was_called_true(recorded, config, tmp_path):
    """A part that slips is not lifted: there the current is less than with the somewhat heavier one."""
    _, path, times = recorded
    labels = spoken(tmp_path / "labels.toml", times, {"false": MILD, "true": SEVERE}, tag="lift_current_a")
    said = calibrate(path, "--config", config, "--labels", labels)
    assert "only: beyond that a true alarm would be lost" in said.stdout
    assert "lift_current_a" in within(begun(path, times, config), SEVERE)


def test_suspicious_stretches_are_set_aside_and_told(recorded, config):
    cell, path, times = recorded
    (rows,) = [each for each in gather([path], cell) if each.group == "cycle"]
    normal = find_normal(rows, cell)
    lift = next(tag for tag in normal.tags if tag.tag == "lift_current_a")
    begins = [int(np.searchsorted(times, stretch.from_at)) for stretch in lift.suspicious]
    assert any(abs(cycle - MILD.start) <= 2 for cycle in begins)
    slip = next(tag for tag in normal.tags if tag.tag == "part_slip_mm")
    assert slip.rejected["no good value, or beyond a hard limit"] == len(SEVERE)
    assert 100 < lift.used < CYCLES - 25
    assert lift.rejected["suspicious"] == len(MILD)
    said = calibrate(path, "--config", config, "--dry").stdout
    assert "lift_current_a: suspicious, set aside: 2026-03-01" in said
    assert "nothing was written" in said
    assert not (config / FILE).exists()


def test_what_is_calibrated_is_judged_from_the_first_row_on(recorded, config):
    """Without it the first 60 cycles are for learning."""
    _, path, times = recorded
    calibrate(path, "--config", config)
    late = path.with_name("late.csv")
    lines = path.read_text().splitlines()
    late.write_text("\n".join([lines[0], *lines[SEVERE.start - 3 :]]) + "\n")
    assert "lift_current_a" in [tag for tag, _ in begun(late, times, config)]
    (config / FILE).unlink()
    assert "lift_current_a" not in [tag for tag, _ in begun(late, times, config)]


def test_two_cells_of_a_file_do_not_disturb_each_other(recorded, config):
    _, path, _ = recorded
    calibrate(path, "--config", config)
    once = (config / FILE).read_bytes()
    calibrate(path, "--config", config)
    assert (config / FILE).read_bytes() == once


# ---------------------------------------------------------------------- what the suite adopts


def normal(**changed: object) -> GroupNormal:
    random = np.random.default_rng(0)
    fields = {
        "group": "cycle", "tags": ("torque_n",), "units": ("N",), "widen": np.ones(1),
        "block": 10 + 0.1 * random.standard_normal((50, 1)),
    }  # fmt: skip
    return GroupNormal(**{**fields, **changed})


def test_adoption_is_a_fact_at_the_first_row_and_outlives_a_snapshot():
    cell, data = small_cell(), encode_calibration({small_cell().path: [normal()]})
    feeder = Feeder(suite=Suite(cell, calibration=data))
    facts = feeder.cycles(3)
    adopted = [fact for fact in facts if isinstance(fact, CalibrationAdopted)]
    assert [(fact.group, fact.rows) for fact in adopted] == [("cycle", 50)]
    other = Suite(cell, calibration=data)
    other.restore(feeder.suite.snapshot())
    assert other.snapshot() == feeder.suite.snapshot()
    assert other.watches[0].baseline.centre[cell_slot(other, "torque_n")] == pytest.approx(10, abs=0.1)
    assert np.isnan(other.watches[0].baseline.centre[cell_slot(other, "force_n")])


def cell_slot(suite: Suite, name: str) -> int:
    return suite.watches[0].columns.names.index(name)


def test_a_memory_of_another_calibration_is_not_gone_on_from():
    from schemas.errors import CodecError

    cell = small_cell()
    memory = Suite(cell, calibration=encode_calibration({cell.path: [normal()]})).snapshot()
    with pytest.raises(CodecError, match="another cell or detector configuration"):
        Suite(cell).restore(memory)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"tags": ("colour",)},
            r"calibration\.msgpack: a/b/c/d/e: colour: plant\.toml has no such tag in group 'cycle'",
        ),
        (
            {"units": ("kN",)},
            r"torque_n: it was calibrated in 'kN' and plant\.toml has 'N'\. Take calibration\.msgpack",
        ),
        ({"group": "grid"}, r"no such tag in group 'grid'"),
        ({"tags": ("force_sp_n",)}, r"force_sp_n: plant\.toml does not have it watched"),
        ({"block": np.full((50, 1), np.nan)}, r"cycle: 50 rows of 1 tags"),
        ({"block": np.ones((3, 1))}, r"3 rows of 1 tags, not 20 or more of 1"),
        ({"widen": np.zeros(1)}, r"widen: it is below 1"),
    ],
)
def test_a_calibration_of_other_tags_or_units_is_refused(changed, said):
    data = encode_calibration({small_cell().path: [normal(**changed)]})
    with pytest.raises(ConfigError, match=said):
        normals_for(data, small_cell())


def test_a_calibration_of_another_cell_or_no_calibration_at_all_stops_the_start(config):
    (config / FILE).write_bytes(encode_calibration({"a/b/c/d/e": [normal()]}))
    with pytest.raises(ConfigError, match=r"calibration\.msgpack: a/b/c/d/e: plant\.toml has no such cell"):
        load(config)
    for data in (b"", b"nonsense"):
        (config / FILE).write_bytes(data)
        with pytest.raises(ConfigError, match=r"calibration\.msgpack: \(whole file\): not a packed state"):
            load(config)


# ---------------------------------------------------------------------- figures by hand


def some_rows(values: np.ndarray) -> Rows:
    """Rows of the level, one a second."""
    cell = small_cell()
    names = tuple(tag.name for tag in cell.tags if tag.group == "grid")
    end_at = 1_700_000_000_000_000 + 1_000_000 * np.arange(len(values), dtype=np.int64)
    return Rows("grid", names, end_at, np.column_stack([values] * len(names)))


def test_white_noise_remembers_one_row_and_a_slow_tag_many():
    random = np.random.default_rng(3)
    noise = random.standard_normal(2000)
    slow = np.zeros(2000)
    for k in range(1, 2000):
        slow[k] = 0.9 * slow[k - 1] + noise[k]
    white = find_normal(some_rows(noise), small_cell()).tags[0].autocorrelation_s
    # An AR(1) of 0.9 has (1 + 0.9) / (1 - 0.9) = 19.
    remembered = find_normal(some_rows(slow), small_cell()).tags[0].autocorrelation_s
    assert white == pytest.approx(1.0, abs=0.2)
    assert 10 < remembered < 30


def test_false_alarms_are_counted_on_rows_that_were_left_out():
    """The last quarter lies elsewhere by a little: nothing is suspicious, and yet a quarter left out stands out."""
    random = np.random.default_rng(4)
    values = 0.1 * random.standard_normal(4000)
    steady = find_normal(some_rows(values), small_cell()).tags[0]
    values[3000:] += 0.9
    moved = find_normal(some_rows(values), small_cell()).tags[0]
    assert (steady.false_per_day, steady.suspicious) == (0.0, ())
    assert steady.days == pytest.approx(4000 / 86_400)
    assert moved.false_per_day > 0 or moved.suspicious


def test_too_few_normal_rows_are_refused():
    with pytest.raises(RecordingError, match=r"only 12 of 12 rows are normal\. Give a time of normal operation"):
        find_normal(some_rows(np.random.default_rng(0).standard_normal(12)), small_cell())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[labels]]\ntag = "colour"\n', r"labels\.0\.tag: cell 'cell1' has no tag 'colour'"),
        ('[[labels]]\nalarm = "perhaps"\n', r"labels\.0\.alarm"),
        ("[[labels]]\nuntil = 2020-01-01T00:00:00Z\n", r"from is not before until"),
        ("[[labels", r"Correct the TOML syntax there"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(tmp_path, recorded, text, said):
    fields = {
        "from": "2026-03-01T12:00:00Z", "until": "2026-03-01T13:00:00Z", "alarm": '"false"', "who": '"m"',
    }  # fmt: skip
    missing = "".join(f"{name} = {value}\n" for name, value in fields.items() if f"{name} =" not in text)
    (tmp_path / "labels.toml").write_text(text + missing)
    with pytest.raises(ConfigError, match=said):
        read_labels(tmp_path / "labels.toml", recorded[0])


def test_files_of_other_tags_and_overlapping_files_are_refused(recorded, config, tmp_path):
    _, path, _ = recorded
    (tmp_path / "odd.csv").write_text("timestamp,colour\n2026-03-01T12:00:00Z,1\n2026-03-01T12:00:01Z,2\n")
    said = calibrate(tmp_path / "odd.csv", "--config", config)
    assert "none of colour is a tag of cell 'cell1'" in str(said.exception)
    shutil.copy(path, tmp_path / "again.csv")
    said = calibrate(path, tmp_path / "again.csv", "--config", config)
    assert "two files have rows of the same time" in str(said.exception)
