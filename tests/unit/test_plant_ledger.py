"""The PLC's durable memory: what outlives a power cut, and what may be said of an id that fell out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from connectors.plant.codes import Code, State
from connectors.plant.ledger import ENTRIES_MAX, Entry, Ledger
from connectors.plant.plc import Inputs, Plc
from schemas.errors import ConfigError, LogHalted

HASH = "0" * 64


def entry(command_id, state=State.DONE):
    return Entry(command_id, HASH, "SetGripForce", state, Code.OK, "")


def fill(ledger, n):
    for i in range(n):
        ledger.record(entry(f"c{i}"), retain={}, epoch=1)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "plc.sqlite")
    yield opened
    opened.close()


def test_entry_set_point_and_floor_come_back_together(tmp_path):
    first = Ledger(tmp_path / "plc.sqlite")
    first.record(entry("a"), retain={"grip_force_n": 40.0}, epoch=7)
    first.close()
    second = Ledger(tmp_path / "plc.sqlite")
    assert second.find("a") == entry("a")
    assert (second.retained()["grip_force_n"], second.epoch_floor()) == (40.0, 7)
    second.close()


def test_nothing_of_a_failed_record_is_kept(ledger):
    ledger.record(entry("a"), retain={"grip_force_n": 40.0}, epoch=1)
    with pytest.raises(LogHalted, match="UNIQUE"):
        ledger.record(entry("a"), retain={"grip_force_n": 20.0}, epoch=9)
    assert (ledger.retained()["grip_force_n"], ledger.epoch_floor()) == (40.0, 1)


def test_a_lower_epoch_does_not_lower_the_floor(ledger):
    ledger.raise_floor(9)
    ledger.record(entry("a"), retain={}, epoch=3)
    assert ledger.epoch_floor() == 9


def test_floor_is_exact_at_the_end_of_int64(ledger):
    ledger.raise_floor(2**63 - 1)
    assert ledger.epoch_floor() == 2**63 - 1


def test_ledger_is_bounded_and_no_id_that_fell_out_is_ever_called_new(tmp_path):
    ledger = Ledger(None)
    fill(ledger, 3 * ENTRIES_MAX)
    kept = [i for i in range(3 * ENTRIES_MAX) if ledger.find(f"c{i}") is not None]
    assert kept == list(range(2 * ENTRIES_MAX, 3 * ENTRIES_MAX))
    assert all(ledger.was_evicted(f"c{i}") for i in range(2 * ENTRIES_MAX))
    ledger.close()


def test_what_fell_out_is_known_after_a_restart(tmp_path):
    first = Ledger(tmp_path / "plc.sqlite")
    fill(first, ENTRIES_MAX + 1)
    first.close()
    second = Ledger(tmp_path / "plc.sqlite")
    assert second.was_evicted("c0")
    assert not second.was_evicted("c1")
    second.close()


def test_new_ids_are_rarely_called_forgotten():
    ledger = Ledger(None)
    fill(ledger, 4 * ENTRIES_MAX)
    # 768 ids in 2^20 bits with 7 hashes: 1 in 10^15.
    assert not any(ledger.was_evicted(f"new{i}") for i in range(10_000))
    assert 0.0 < ledger.bits_set_pct() < 1.0
    ledger.close()


def test_a_running_command_does_not_fall_out():
    ledger = Ledger(None)
    ledger.record(entry("slow", State.RUNNING), retain={}, epoch=1)
    fill(ledger, 2 * ENTRIES_MAX)
    assert ledger.find("slow") is not None
    ledger.close()


def test_file_that_is_no_ledger_is_named(tmp_path):
    (tmp_path / "plc.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(ConfigError, match=r"plc\.sqlite: ledger"):
        Ledger(tmp_path / "plc.sqlite")


def test_on_a_full_disk_nothing_is_done_and_nothing_half_kept(tmp_path):
    ledger = Ledger(tmp_path / "plc.sqlite")
    plc = Plc(ledger, Inputs(), now_us=lambda: 0, wall_us=lambda: 0)
    plc.agent_beat(1)
    ledger._db.execute("PRAGMA max_page_count = 12")  # SQLite's own "database or disk is full"
    forces_n = [20.0 + i / 16 for i in range(ENTRIES_MAX)]

    def execute_all():
        for force_n in forces_n:
            plc.execute(f"to {force_n}", 1, HASH, "SetGripForce", [force_n], [plc.setpoints.grip_force_n], 1000)

    with pytest.raises(LogHalted, match="full"):
        execute_all()
    present_n = plc.setpoints.grip_force_n
    assert ledger.retained()["grip_force_n"] == present_n
    assert ledger.find(f"to {present_n}").state is State.DONE
    assert ledger.find(f"to {present_n + 1 / 16}") is None
    ledger.close()


CRASH = """
import os, signal, sys
from pathlib import Path
from connectors.plant.ledger import Ledger
from connectors.plant.plc import Inputs, Plc

class Dying(Ledger):
    def record(self, entry, *, retain, epoch):
        if sys.argv[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().record(entry, retain=retain, epoch=epoch)
        os.kill(os.getpid(), signal.SIGKILL)

plc = Plc(Dying(Path(sys.argv[1])), Inputs(), now_us=lambda: 0, wall_us=lambda: 0)
plc.agent_beat(1)
plc.execute("a", 5, "0" * 64, "SetGripForce", [40.0], [15.0], 1000)
"""


@pytest.mark.parametrize(
    ("when", "state", "force_n", "floor"),
    [("before", State.NEVER_SEEN, 15.0, 0), ("after", State.DONE, 40.0, 5)],
)
def test_killed_around_the_commit_ledger_and_set_point_agree(tmp_path, when, state, force_n, floor):
    path = tmp_path / "plc.sqlite"
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(path), when], env=os.environ | {"PYTHONPATH": "."}
    )
    assert died.returncode == -signal.SIGKILL
    ledger = Ledger(path)
    assert ledger.epoch_floor() == floor
    plc = Plc(ledger, Inputs(), now_us=lambda: 0, wall_us=lambda: 0)
    assert (plc.query("a", 5).state, plc.setpoints.grip_force_n) == (state, force_n)
    ledger.close()
