"""Bad input: each a clear one-line error that names file, field and remedy; nothing is left half-written."""

from __future__ import annotations

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.operator_socket import REQUEST_BYTES_MAX, call
from tests.support.bench import Bench, jidoka, jidoka_process
from tests.support.demo import CONFIG

SETTINGS = '[opcua]\nurl = "opc.tcp://127.0.0.1:1/x"\n'


@pytest.fixture
def config(tmp_path):
    """A sound configuration folder without a server behind it."""
    folder = tmp_path / "config"
    shutil.copytree(CONFIG, folder)
    (folder / "jidoka.toml").write_text(SETTINGS)
    return folder


def edit(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


# ---------------------------------------------------------------- configuration

WRONG = {
    "unknown tag": (
        "catalogue.toml",
        'tag = "part_slip_mm"',
        'tag = "part_slipp_mm"',
        ["catalogue.toml", "part_slipp_mm"],
    ),
    "unit mismatch": (
        "catalogue.toml",
        'unit = "N"',
        'unit = "kN"',
        ["catalogue.toml", "args.unit", "'kN'", "nothing is converted"],
    ),
    "limits low above high": (
        "plant.toml",
        "limits = { low = -2.0, high = 2.0 }",
        "limits = { low = 3.0, high = 2.0 }",
        ["plant.toml", "limits"],
    ),
    "range low above high": (
        "plant.toml",
        "range = { low = -5, high = 100 }",
        "range = { low = 5, high = -100 }",
        ["plant.toml", "range"],
    ),
    "argument min above max": (
        "catalogue.toml",
        "min = 10, max = 50",
        "min = 50, max = 10",
        ["catalogue.toml", "args"],
    ),
    "no TOML": ("policy.toml", "quiet_s = 30", "quiet_s = = 30", ["policy.toml", "(syntax)", "line"]),
    "unknown field": ("policy.toml", "quiet_s = 30", "quite_s = 30", ["policy.toml", "quite_s", "spelling"]),
    "outside the schema subset": (
        "catalogue.toml",
        'risk_class = "B"',
        'risk_class = "X"',
        ["catalogue.toml", "risk_class"],
    ),
    "a number that is none": ("policy.toml", "decide_s = 600", "decide_s = nan", ["policy.toml", "decide_s"]),
    "an infinite limit": ("catalogue.toml", "max = 50", "max = inf", ["catalogue.toml", "max"]),
    "two tags of one id": ("plant.toml", "id = 2\n", "id = 1\n", ["plant.toml"]),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("command", ["run", "doctor"])
def test_configuration_that_is_wrong_is_one_line_with_file_field_and_remedy(config, kind, command):
    name, old, new, words = WRONG[kind]
    edit(config, name, old, new)
    said = jidoka(command, "--config", config)
    assert said.status == 2, said
    for word in words:
        assert word in said.one_line_error
    assert said.one_line_error.rstrip().split(". ")[-1], "a remedy ends the line"
    assert not (config / "var").exists()


@pytest.mark.parametrize("name", ["jidoka.toml", "plant.toml", "catalogue.toml", "policy.toml", "playbook.toml"])
def test_file_that_is_missing_is_named(config, name):
    (config / name).unlink()
    said = jidoka("run", "--config", config)
    assert (said.status, name in said.one_line_error, "--config" in said.err) == (2, True, True)


def test_as_a_process_there_is_no_traceback_and_the_status_is_2(config):
    edit(config, "plant.toml", 'unit = "N"', "unit = 5")
    said = jidoka_process("run", "--config", config)
    assert (said.status, "plant.toml" in said.one_line_error) == (2, True)


def test_file_that_is_no_text_is_named(config):
    (config / "plant.toml").write_bytes(b"\xff\xfe\x00")
    said = jidoka("run", "--config", config)
    assert (said.status, "plant.toml: (syntax)" in said.one_line_error) == (2, True)


def test_password_file_that_is_missing_or_open_to_others_is_named(config, tmp_path):
    for mode in (None, 0o644):
        password = tmp_path / "collector.password"
        if mode is not None:
            password.write_text("x\n")
            password.chmod(mode)
        user = f'collector = {{ name = "collector", password_file = "{password}" }}\n'
        (config / "jidoka.toml").write_text(SETTINGS + user)
        said = jidoka("doctor", "--config", config)
        assert said.status in (1, 2), said
        assert "Traceback" not in said.err


def test_data_folder_that_cannot_be_made_is_named(config):
    (config / "var").write_text("a file is in the way")
    said = jidoka("run", "--config", config)
    assert said.status in (1, 2), said
    assert "var" in said.one_line_error


@pytest.mark.parametrize("words", [["log", "tail"], ["log", "verify"], ["replay", "run"], ["export"], ["status"]])
def test_commands_without_a_log_or_an_agent_say_where_they_looked(config, tmp_path, words):
    said = jidoka(*words, *([tmp_path / "out"] if words == ["export"] else []), "--config", config)
    assert said.status == 1, said
    assert str(config / "var") in said.err + said.out
    assert "Traceback" not in said.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config"]


# ---------------------------------------------------------------- recordings

T0 = datetime(2026, 3, 1, tzinfo=UTC)


def recording(folder: Path, times=range(60), values=None) -> Path:
    path = folder / "run.csv"
    lines = [f"{(T0 + timedelta(seconds=t)):%Y-%m-%d %H:%M:%S},{(values or {}).get(n, f'{n % 7}.5')}"
             for n, t in enumerate(times)]  # fmt: skip
    path.write_text("\n".join(["time,Torque", *lines]) + "\n")
    return path


BROKEN = {
    "out of order": ([*range(30), 10, *range(31, 60)], ["earlier", "row 31"]),
    "repeated times": ([*range(30), 29, *range(30, 60)], ["repeat", "row 31"]),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("record", [False, True])
def test_recording_that_cannot_be_used_is_said_with_its_row_and_leaves_nothing(tmp_path, kind, record):
    times, words = BROKEN[kind]
    path, log = recording(tmp_path, times), tmp_path / "log"
    said = jidoka("backtest", path, *(["--record", log] if record else []))
    assert said.status == 1, said
    assert "Traceback" not in said.err
    for word in [*words, "run.csv"]:
        assert word in said.out + said.err
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p != path]


def test_recording_with_nan_is_used_and_its_log_verifies_and_replays(tmp_path):
    path = recording(tmp_path, values={5: "NaN", 6: "", 7: "n/a"})
    said = jidoka("backtest", path, "--record", tmp_path / "log")
    assert said.status == 0, said
    assert jidoka("log", "verify", "--data", tmp_path / "log" / "001-run").status == 0
    replayed = jidoka_process("replay", "run", "--data", tmp_path / "log" / "001-run")
    assert (replayed.status, "the same, byte for byte" in replayed.out) == (0, True), replayed


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"time,Torque\n", b"a,b\nc,d\n"])
def test_file_that_is_no_recording_is_said_by_name(tmp_path, content):
    path = tmp_path / "run.csv"
    path.write_bytes(content)
    said = jidoka("backtest", path)
    assert (said.status, "Traceback" in said.err) == (1, False)
    assert "run.csv" in said.out + said.err


def test_path_without_recordings_and_path_that_does_not_exist_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nothing.csv"):
        said = jidoka("backtest", path)
        assert (said.status, "Traceback" in said.err) == (1, False)
        assert path.name in said.out + said.err


def test_folder_to_record_into_that_exists_is_refused(tmp_path):
    path = recording(tmp_path)
    (tmp_path / "log").mkdir()
    said = jidoka("backtest", path, "--record", tmp_path / "log")
    assert (said.status, "nothing is overwritten" in said.one_line_error) == (1, True)
    assert list((tmp_path / "log").iterdir()) == []


# ---------------------------------------------------------------- a running agent


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("bench"))
    made.edit("jidoka.toml", 'mode = "act"', 'mode = "observe"')
    try:
        made.start()
        made.until("line.state_changed")
        yield made
    finally:
        made.close()


def test_second_writer_is_refused_and_the_first_goes_on(bench):
    said = jidoka_process("run", "--config", bench.config)
    assert said.status == 1, said
    assert str(bench.data) in said.one_line_error
    before = bench.last
    assert bench.call("note", "still here").status == 0
    assert bench.last > before
    assert [r.fact.epoch for r in bench.records("agent.started")] == [1]


def test_garbage_on_the_operator_socket_is_answered_and_the_agent_goes_on(bench):
    garbage = [
        b"hello\n", b"\n", b"{}\n", b"[1, 2]\n", b"\xff\xfe\n", b'{"kind": "explode"}\n',
        b'{"kind": "status", "x": 1}\n',
        b'{"kind": "approve", "target": 5}\n', b'{"kind": "request", "target": "hold_cell", "args": {"a": "b"}}\n',
    ]  # fmt: skip
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(15.0)
        client.connect(str(bench.data / "operator.sock"))
        with client.makefile("rwb") as lines:
            for line in garbage:
                lines.write(line)
                lines.flush()
                answer = json.loads(lines.readline())
                assert (answer["ok"], bool(answer["error"])) == (False, True), (line, answer)
    assert bench.call("status").status == 0


def test_line_beyond_the_limit_ends_that_connection_and_no_other(bench):
    path = str(bench.data / "operator.sock")
    with socket.socket(socket.AF_UNIX) as huge:
        huge.settimeout(15.0)
        huge.connect(path)
        try:
            huge.sendall(b"x" * (2 * REQUEST_BYTES_MAX) + b"\n")
            assert huge.recv(10) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up before all of it was sent
    assert bench.call("status").status == 0


def test_connection_that_says_nothing_holds_up_nobody(bench):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(bench.data / "operator.sock"))
        silent.sendall(b'{"kind": "sta')
        assert bench.call("status").status == 0


def test_two_clients_at_once_are_both_answered_and_each_request_is_one_fact(bench):
    after, path = bench.last, bench.data / "operator.sock"
    notes = [f"note {n}" for n in range(20)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = list(pool.map(lambda text: call(path, {"kind": "note", "reason": text}), notes))
    assert all(answer["ok"] for answer in answers)
    said = [r.fact.reason for r in bench.records("operator.requested") if r.position > after]
    assert sorted(said) == sorted(notes)


def test_request_told_twice_under_one_id_has_one_consequence(bench):
    after, path = bench.last, bench.data / "operator.sock"
    off = {"kind": "off", "request_id": "the same"}
    assert call(path, off)["ok"]
    assert call(path, {"kind": "on"})["ok"]
    call(path, off)  # told again, e.g. by a client that had heard no answer
    assert [r.fact.on for r in bench.records("automation.switched") if r.position > after] == [False, True]


def test_who_asks_is_the_user_at_the_other_end_whatever_the_line_says(bench):
    answer = call(bench.data / "operator.sock", {"kind": "note", "reason": "x", "who": "somebody else"})
    assert not answer["ok"]


def test_socket_is_for_its_owner_alone(bench):
    assert (bench.data / "operator.sock").stat().st_mode & 0o777 == 0o600
