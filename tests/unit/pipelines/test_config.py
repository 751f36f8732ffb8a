"""Bad configuration: each mistake is a ConfigError that names the file, the field and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from connectors.eventlog.blobs import FileBlobs
from pipelines.config import DECISIVE, FILES, load, rulebooks
from pipelines.opening import opening_facts
from schemas.errors import ConfigError
from schemas.facts import ConfigAdopted
from tests.support.demo import CELL, CONFIG

STREAMS = Path(__file__).parents[3] / "examples/streams.toml"
SETTINGS = """
mode = "observe"

[opcua]
url = "opc.tcp://127.0.0.1:4840"
security = "SignAndEncrypt"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole configuration that loads: the demo's, with plain settings."""
    for name in FILES:
        if (CONFIG / name).exists():
            shutil.copy(CONFIG / name, tmp_path / name)
    (tmp_path / "jidoka.toml").write_text(SETTINGS)
    return tmp_path


def change(folder: Path, name: str, old: str, new: str) -> None:
    """Replace the first `old`, which must be there."""
    text = (folder / name).read_text()
    assert old in text, f"{old!r} is not in {name}"
    (folder / name).write_text(text.replace(old, new, 1))


def mistake(folder: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(folder)
    error = caught.value
    assert str(error) == f"{error.file}: {error.field}: {error.problem}. {error.remedy}"
    assert error.field
    assert error.problem
    assert error.remedy
    return error


def test_aliases_of_a_tag_that_is_no_set_point_are_refused(folder):
    """Nobody asks for a measured value: such an alias would be taken and never read."""
    change(folder, "plant.toml", 'role = "setpoint"', 'aliases = ["squeeze"]\nrole = "setpoint"')
    assert [tag.aliases for tag in load(folder).plant.cells[0].tags if tag.aliases] == [("squeeze",)]
    change(folder, "plant.toml", 'role = "counter"', 'aliases = ["parts"]\nrole = "counter"')
    error = mistake(folder)
    assert (error.file, error.field) == ("plant.toml", "cells.0.tags.0.aliases")
    assert "is no set-point" in error.problem
    assert error.remedy == "Take them away, or give them to its asset"


def test_the_demos_configuration_loads_whole(folder):
    configuration = load(folder)
    assert [cell.path for cell in configuration.plant.cells] == [CELL]
    assert configuration.data == folder / "var"
    assert configuration.rules_for(configuration.plant.cells[0]) == rulebooks(configuration.files)[CELL]
    assert all(len(configuration.sha256(name)) == 64 for name in FILES)


@pytest.mark.parametrize("name", list(FILES))
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    error = mistake(folder)
    assert error.file.endswith(name)
    assert (error.field, error.remedy) == ("(file)", "Create it, or point --config to its folder")


def test_a_file_that_is_a_folder_cannot_be_read(folder):
    (folder / "policy.toml").unlink()
    (folder / "policy.toml").mkdir()
    error = mistake(folder)
    assert error.file.endswith("policy.toml")
    assert "cannot be read" in error.problem


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("content", [b"a = ", b"[[a]\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_what_is_no_toml_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    error = mistake(folder)
    assert (error.file, error.field) == (name, "(syntax)")


@pytest.mark.parametrize("name", list(FILES))
def test_an_unknown_field_is_named(folder, name):
    path = folder / name
    path.write_text("colour = 'red'\n" + path.read_text())
    error = mistake(folder)
    assert (error.file, error.field) == (name, "colour")
    assert error.remedy.startswith("Remove it, or correct its spelling")


CASES = [
    # (file, old, new, field, words of the problem)
    ("plant.toml", 'name = "grip_force_n"\n', "", "cells.0.tags.1.name", "required"),
    ("plant.toml", "range = { low = -5, high = 100 }", "range = { low = 100, high = -5 }", "cells.0.tags.1.range",
     "low 100.0 is above high -5.0"),
    ("plant.toml", "limits = { high = 3.5 }", "limits = { low = 4.0, high = 3.5 }", "cells.0.tags.4.limits",
     "low 4.0 is not below high 3.5"),
    ("plant.toml", "limits = { high = 3.5 }", "limits = { }", "cells.0.tags.4.limits", "neither low nor high"),
    ("plant.toml", "range = { low = -5, high = 100 }", "range = { low = -inf, high = 100 }", "range.low", "finite"),
    ("plant.toml", "range = { low = -5, high = 100 }", "range = { low = nan, high = 100 }", "range.low", "finite"),
    ("plant.toml", 'name = "grip_current_a"', 'name = "grip_force_n"', "cells.0", "two tags have the same name"),
    ("plant.toml", "id = 3\n", "id = 2\n", "cells.0", "two tags have the same id"),
    ("plant.toml", "id = 3\n", "id = -1\n", "cells.0.tags.2.id", "greater than or equal to 0"),
    ("plant.toml", 'asset = "gripper"\nnode', 'asset = "griper"\nnode', "cells.0", "unknown asset 'griper'"),
    ("plant.toml", 'group = "cycle"\nrole = "counter"', 'group = "circle"', "cells.0", "unknown group 'circle'"),
    ("plant.toml", 'trigger = "cycle_count"', 'trigger = "cycle_cuont"', "cells.0", "unknown tag 'cycle_cuont'"),
    ("plant.toml", 'tag = "estop_ok"', 'tag = "estop"', "cells.0", "unknown tag 'estop'"),
    ("plant.toml", 'enable_tag = "agent_enable"', 'enable_tag = "enable"', "cells.0", "unknown tag 'enable'"),
    ("plant.toml", 'id = "drive", asset = "drive"', 'id = "drive", asset = "motor"', "cells.0",
     "unknown asset 'motor'"),
    ("plant.toml", 'id = "drive", asset = "drive"', 'id = "gripper", asset = "drive"', "cells.0",
     "two robots have the same id"),
    ("plant.toml", '{ id = "cell", title', '{ id = "drive", title', "cells.0", "two assets have the same id"),
    ("plant.toml", '{ id = "status"', '{ id = "cycle"', "cells.0", "two groups have the same id"),
    ("plant.toml", 'path = "jidoka/demo/assembly/line1/cell1"', 'path = "cell1"', "cells.0.path", "pattern"),
    ("plant.toml", 'minus = ["grip_force_n", ', 'minus = ["lift_peak_a", ', "cells.0", "minus needs two tags in 'N'"),
    ("catalogue.toml", 'unit = "N"', 'unit = "kN"', "actions.1.args.unit", "is in 'kN' and tag grip_force_sp_n in 'N'"),
    ("catalogue.toml", "min = 10, max = 50", "min = 50, max = 10", "actions.1.args.0", "min 50.0 is above max 10.0"),
    ("catalogue.toml", 'tag = "grip_force_sp_n"', 'tag = "grip_force_sp"', "actions.1.args.tag",
     "no tag 'grip_force_sp'"),
    ("catalogue.toml", 'postcondition = { tag = "lift_current_a"', 'postcondition = { tag = "lift_a"', "actions.0",
     "no tag 'lift_a'"),
    ("catalogue.toml", '"lift_current_a", "lift_peak_a"', '"lift_current_a", "lift_a"', "actions.0", "no tag 'lift_a'"),
    ("catalogue.toml", "for_cycles = 3, ", "", "actions.0.postcondition", "either for_cycles or held_for_s"),
    ("catalogue.toml", 'comparator = "lt"', 'comparator = "below"', "actions.0.postcondition.comparator", "'lt'"),
    ("catalogue.toml", '"SUSPENDED", ', '"SUSPENDDED", ', "actions.5.states", "'SUSPENDDED' is no PackML state"),
    ("catalogue.toml", 'robot = "drive"', 'robot = "drvie"', "actions.2.robot", "no robot 'drvie'"),
    ("catalogue.toml", 'name = "set_grip_force"', 'name = "set_motion_speed"', "(whole file)",
     "two actions have the same name"),
    ("catalogue.toml", 'exclusive_with = ["clean_pads"', 'exclusive_with = ["clean_pad"', "(whole file)",
     "exclusive with unknown 'clean_pad'"),
    ("catalogue.toml", 'risk_class = "B"', 'risk_class = "X"', "actions.0.risk_class", "'A', 'B', 'C' or 'D'"),
    ("catalogue.toml", "max_step = 60", "max_step = 0", "actions.0.args.0.max_step", "greater than 0"),
    ("catalogue.toml", "max_step = 60", "max_step = nan", "actions.0.args.0.max_step", "finite"),
    ("catalogue.toml", "cooldown_s = 600", "cooldown_s = 3601", "actions.4.cooldown_s", "less than or equal to 3600"),
    ("catalogue.toml", 'args = [{ name = "grip_force_n", min = 10, max = 50, unit = "N", max_step = 30, '
     'tag = "grip_force_sp_n" }]', "", "(whole file)", "has an effect direction and no argument"),
    ("catalogue.toml", 'tag = "grip_force_sp_n" }]', 'tag = "grip_force_sp_n" }, { name = "grip_force_n", min = 1, '
     'max = 2, unit = "N", tag = "grip_force_sp_n" }]', "(whole file)", "two arguments have the same name"),
    ("policy.toml", 'hold_action = "hold_cell"', 'hold_action = "hold"', "hold_action", "no action 'hold'"),
    ("policy.toml", 'hold_action = "hold_cell"', 'hold_action = "set_grip_force"', "hold_action",
     "set_grip_force takes grip_force_n, and a hold has no values"),
    ("policy.toml", "quiet_s = 30", 'cells = [{ cell = "cell9", hold_action = "hold_cell" }]', "cells",
     "no cell 'cell9'"),
    ("policy.toml", "quiet_s = 30", 'cells = [{ cell = "cell1", hold_action = "hold" }]', "cells", "no action 'hold'"),
    ("policy.toml", "quiet_s = 30", "cells = [" + 2 * '{ cell = "cell1", hold_action = "hold_cell" },' + "]",
     "(whole file)", "'cell1' is named twice under cells"),
    ("policy.toml", 'action = "set_conveyor_speed"', 'action = "set_speed"', "actions", "no action 'set_speed'"),
    ("policy.toml", 'action = "set_conveyor_speed"', 'action = "clean_pads"', "actions",
     "clean_pads is class C: auto lifts class B only"),
    ("policy.toml", 'raised_by = "demo"\n', "", "actions.0", "say raised_by and reason"),
    ("policy.toml", 'autonomy = "auto"', 'autonomy = "always"', "actions.0.autonomy", "'observe'"),
    ("policy.toml", 'action = "set_conveyor_speed"', 'action = "set_motion_speed"', "(whole file)",
     "'set_motion_speed' is named twice"),
    ("policy.toml", "decide_s = 600", "decide_s = 0", "decide_s", "greater than 0"),
    ("policy.toml", "decide_s = 600", "decide_s = inf", "decide_s", "finite"),
    ("playbook.toml", 'tag = "drive_current_a"', 'tag = "drive_a"', "rules.4.when", "no tag 'drive_a'"),
    ("playbook.toml", '"change_pads"', '"change_pad"', "rules.1.actions", "no action 'change_pad'"),
    ("playbook.toml", 'asset = "drive"', 'asset = "motor"', "rules.4.asset", "no asset 'motor'"),
    ("playbook.toml", "args = { grip_force_n = 40 }", "args = { force = 40 }", "rules.3.actions",
     "set_grip_force takes ['grip_force_n']"),
    ("playbook.toml", '"high", "very_high"', '"high", "extreme"', "rules.0.when.0.buckets.1", "'very_low'"),
    ("jidoka.toml", '"opc.tcp://', '"http://', "opcua.url", "pattern"),
    ("jidoka.toml", 'mode = "observe"', 'mode = "act"', "(whole file)", "mode act needs opcua.actuator"),
    ("jidoka.toml", 'mode = "observe"', 'mode = "auto"', "mode", "'observe' or 'act'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "field", "words"), CASES)
def test_a_mistake_is_named_with_file_field_and_remedy(folder, name, old, new, field, words):
    change(folder, name, old, new)
    error = mistake(folder)
    assert error.file == name
    assert error.field == field or error.field.endswith("." + field)
    assert words in error.problem


def second_cell(folder: Path) -> None:
    """Add a cell with another robot, and a hold action for it."""
    text = (folder / "plant.toml").read_text()
    (folder / "plant.toml").write_text(f"""{text}
[[cells]]
id = "cell2"
path = "jidoka/demo/assembly/line1/cell2"
namespace = "urn:jidoka:plant"
assets = [{{ id = "press", title = "Press" }}]
robots = [{{ id = "press2", asset = "press", kind = "opcua_methods", node = "/Cell2/Press" }}]
groups = []
tags = []
""")
    text = (folder / "catalogue.toml").read_text()
    (folder / "catalogue.toml").write_text(f"""{text}
[[actions]]
name = "hold_press"
title = "Hold the press"
robot = "press2"
risk_class = "B"
binding = {{ verb = "Hold" }}
""")


def test_a_cell_that_the_hold_action_cannot_hold_is_named_at_load(folder):
    """Was: found out when an effect stayed absent, and the way back to safe was refused by `scope`."""
    second_cell(folder)
    error = mistake(folder)
    assert (error.file, error.field) == ("policy.toml", "hold_action")
    assert error.problem == "hold_cell is of robot 'cell', which cell 'cell2' does not have"
    assert error.remedy == "Name the cell's own hold action under cells: cell = 'cell2'"


def test_a_cell_with_a_hold_action_of_its_own_loads(folder):
    second_cell(folder)
    change(folder, "policy.toml", "quiet_s = 30", 'cells = [{ cell = "cell2", hold_action = "hold_press" }]')
    configuration = load(folder)
    rules = [configuration.rules_for(cell) for cell in configuration.plant.cells]
    assert [r.hold_action for r in rules] == ["hold_cell", "hold_press"]


LIMIT = '[[limits]]\naction = "{}"\nargument = "{}"\nmin = {}\nmax = {}\n'


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (("set_grip_force", "grip_force_n", 10, 51), "reaches beyond the catalogue's 10..50"),
        (("set_grip_force", "grip_force_n", 9, 50), "reaches beyond the catalogue's 10..50"),
        (("set_grip_force", "grip_force_n", 40, 30), "min 40.0 is above max 30.0"),
        (("set_grip_force", "force", 10, 50), "has no argument 'force'"),
        (("set_grip", "grip_force_n", 10, 50), "no action 'set_grip'"),
    ],
)
def test_a_policy_only_narrows(folder, limit, words):
    with (folder / "policy.toml").open("a") as policy:
        policy.write(LIMIT.format(*limit))
    error = mistake(folder)
    assert error.file == "policy.toml"
    assert words in error.problem


@pytest.mark.parametrize(
    "limit", [("set_grip_force", "grip_force_n", 10, 50), ("set_grip_force", "grip_force_n", 20, 20)]
)
def test_a_policy_that_narrows_loads(folder, limit):
    with (folder / "policy.toml").open("a") as policy:
        policy.write(LIMIT.format(*limit))
    assert load(folder).policy.limits[0].min == limit[2]


USERS = """
[opcua.collector]
name = "{}"
password_file = "collector.password"

[opcua.actuator]
name = "{}"
password_file = "actuator.password"
"""


def test_a_password_in_clear_needs_somebodys_word(folder):
    path = folder / "jidoka.toml"
    path.write_text(SETTINGS.replace('"SignAndEncrypt"', '"None"') + USERS.format("reader", "writer"))
    assert "sends the password in clear" in mistake(folder).problem
    allowed = SETTINGS.replace('"SignAndEncrypt"', '"None"\nallow_password_in_clear = true')
    path.write_text(allowed + USERS.format("reader", "writer"))
    assert load(folder).settings.opcua.allow_password_in_clear


def test_who_reads_cannot_write(folder):
    (folder / "jidoka.toml").write_text(SETTINGS + USERS.format("same", "same"))
    assert "give the actuator its own" in mistake(folder).problem


def test_a_password_itself_has_no_place_in_the_settings(folder):
    (folder / "jidoka.toml").write_text(SETTINGS + USERS.format("reader", "writer") + 'password = "secret"\n')
    error = mistake(folder)
    assert error.field == "opcua.actuator.password"
    assert "secret" not in str(error)


def test_how_many_more_mistakes_there_are_is_said(folder):
    change(folder, "policy.toml", "decide_s = 600", "decide_s = 0")
    change(folder, "policy.toml", "quiet_s = 30", "quiet_s = -1")
    assert mistake(folder).remedy == "Correct the value (1 more problems follow)"


@pytest.mark.parametrize("name", DECISIVE)
def test_the_rules_of_a_recorded_configuration_are_checked_too(folder, name):
    files = {each: (folder / each).read_bytes() for each in DECISIVE}
    with pytest.raises(ConfigError) as caught:
        rulebooks({**files, name: b"colour = 'red'\n" + files[name]})
    assert (caught.value.file, caught.value.field) == (name, "colour")


def test_the_files_of_the_kafka_settings_lie_below_the_data_folder(folder):
    (folder / "jidoka.toml").write_text(SETTINGS + """
[kafka]
bootstrap = ["h:9093"]
security = "SASL_SSL"
user = { name = "collect", password_file = "users/kafka.password" }
ca = "pki/kafka-ca.pem"
""")  # fmt: skip
    kafka = load(folder).settings.kafka
    data = folder.resolve() / "var"
    assert (kafka.user.password_file, kafka.ca) == (str(data / "users/kafka.password"), str(data / "pki/kafka-ca.pem"))
    assert (kafka.certificate, kafka.key) == ("", "")


def test_a_user_without_a_secured_broker_is_refused(folder):
    (folder / "jidoka.toml").write_text(SETTINGS + """
[kafka]
bootstrap = ["h:9092"]
user = { name = "collect", password_file = "users/kafka.password" }
""")  # fmt: skip
    assert "security SASL_… needs kafka.user, and the others have none" in mistake(folder).problem


def adopted(folder: Path, blobs: FileBlobs) -> dict[str, bytes]:
    facts = opening_facts(load(folder), blobs, at=1, mode="observe", epoch=1, who="test")
    return {fact.name: blobs.get(fact.sha256) for fact in facts if isinstance(fact, ConfigAdopted)}


def test_streams_are_adopted_with_the_other_files_where_there_are_any(folder, tmp_path):
    blobs = FileBlobs(tmp_path / "blobs")
    assert {*adopted(folder, blobs)} == {*FILES}
    shutil.copy(STREAMS, folder / "streams.toml")
    # Was: the five files only, so that nobody could say later by which mapping a plant's topics were read.
    assert {*adopted(folder, blobs)} == {*FILES, "streams.toml"}
    assert adopted(folder, blobs)["streams.toml"] == STREAMS.read_bytes()
