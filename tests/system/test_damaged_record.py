"""A record that was damaged on disk, and a disk that is full: named, with the remedy, and nothing half-written."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from connectors.eventlog.segment_reading import segment_starts
from tests.support.bench import Bench, jidoka, jidoka_process
from tests.support.demo import CONFIG
from tests.system.test_restart import base
from tests.system.test_retention import Plant

SETTINGS = '[opcua]\nurl = "opc.tcp://127.0.0.1:1/x"\n'


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A data folder with a log, kept input, snapshots and blobs, of an agent that has ended."""
    folder = tmp_path_factory.mktemp("stored")
    site = Plant(folder / "agent")

    async def story(agent):
        await agent.run_for(120.0)

    asyncio.run(site.run(story))
    return folder


@pytest.fixture
def damaged(stored, tmp_path):
    """A copy to damage."""
    data = tmp_path / "agent"
    shutil.copytree(stored / "agent", data)
    return data


def flip(path: Path, at: int, n: int = 1) -> None:
    content = bytearray(path.read_bytes())
    at %= len(content)
    for k in range(at, min(at + n, len(content))):
        content[k] ^= 0x5A
    path.write_bytes(bytes(content))


def run_on(data: Path, tmp_path: Path):
    """Start an agent on a damaged folder: it must end by itself before it connects anywhere."""
    folder = tmp_path / "run-config"
    shutil.copytree(CONFIG, folder)
    (folder / "plant.toml").write_bytes(base().files["plant.toml"])
    (folder / "jidoka.toml").write_text(f'data = "{data}"\n' + SETTINGS)
    return jidoka_process("run", "--config", folder, within_s=60.0)


def test_edited_record_is_named_by_verify_and_the_agent_does_not_start(damaged, tmp_path):
    database = sqlite3.connect(damaged / "log" / "log.sqlite")
    with database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {trigger}")
        (found,) = database.execute("SELECT data FROM events WHERE position = 9").fetchone()
        database.execute("UPDATE events SET data = ? WHERE position = 9", (bytes(found).replace(b"act", b"atc"),))
    database.close()
    verified = jidoka("log", "verify", "--data", damaged)
    assert (verified.status, "NOT AS WRITTEN: record 9" in verified.out) == (1, True), verified
    said = run_on(damaged, tmp_path)
    assert (said.status, "record 9" in said.one_line_error) == (1, True)
    replayed = jidoka_process("replay", "run", "--data", damaged)
    assert (replayed.status, "Traceback" in replayed.err) == (1, False), replayed


def test_damaged_database_is_named_by_every_command(damaged, tmp_path):
    for path in (damaged / "log").glob("log.sqlite-*"):
        path.unlink()
    flip(damaged / "log" / "log.sqlite", 0, 4096)
    for words in (["log", "verify"], ["log", "tail"], ["log", "show", "1"], ["export", tmp_path / "out"]):
        said = jidoka(*words, "--data", damaged)
        assert (said.status, "Traceback" in said.err) == (1, False), said
        assert "log.sqlite" in said.out + said.err
    for said in (jidoka_process("replay", "run", "--data", damaged), run_on(damaged, tmp_path)):
        assert (said.status, "log.sqlite" in said.one_line_error) == (1, True)
    assert not list(tmp_path.glob("out*"))


def test_damaged_segment_is_named_with_its_file_and_the_log_still_verifies(damaged, tmp_path):
    (folder,) = (damaged / "segments").iterdir()
    first = folder / f"segment-{segment_starts(folder)[0]:020d}.jk"
    flip(first, first.stat().st_size // 2)
    assert jidoka("log", "verify", "--data", damaged).status == 0
    for said in (
        jidoka_process("replay", "run", "--data", damaged),
        jidoka("export", tmp_path / "out", "--data", damaged),
    ):
        assert (said.status, first.name in said.one_line_error) == (1, True)
        assert "restore the file from a backup" in said.err
    assert not list(tmp_path.glob("out*"))


def test_damaged_present_segment_stops_the_start_by_name(damaged, tmp_path):
    (folder,) = (damaged / "segments").iterdir()
    last = folder / f"segment-{segment_starts(folder)[-1]:020d}.jk"
    flip(last, 60)
    said = run_on(damaged, tmp_path)
    assert (said.status, last.name in said.one_line_error) == (1, True)


@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_damaged_configuration_blob_is_named(damaged, how):
    name = hashlib.sha256(base().files["plant.toml"]).hexdigest()
    (blob,) = [p for p in (damaged / "blobs").rglob("*") if p.is_file() and name.endswith(p.name)]
    flip(blob, 100) if how == "edited" else blob.unlink()
    replayed = jidoka_process("replay", "run", "--data", damaged)
    assert (replayed.status, name in replayed.one_line_error or blob.name in replayed.err) == (1, True), replayed
    assert "backup" in replayed.err


@pytest.mark.parametrize("name", ["log.head", "log.pub", "log.key"])
def test_missing_key_or_head_is_named(damaged, tmp_path, name):
    (damaged / "log" / name).unlink()
    if name != "log.pub":  # which only readers need
        said = run_on(damaged, tmp_path)
        assert (said.status, name in said.one_line_error) == (1, True)
    verified = jidoka("log", "verify", "--data", damaged)
    assert "Traceback" not in verified.err
    assert verified.status == (0 if name == "log.key" else 1), verified


# ---------------------------------------------------------------- a full disk

DISK_BYTES = 3_000_000


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that is soon full; without the right to mount one there is no such test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        assert os.environ.get("CI") != "true", mounted.stderr
        pytest.skip(f"no right to mount: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_halts_the_agent_by_name_and_with_room_it_goes_on_and_replays(tmp_path, small_disk):
    bench = Bench(tmp_path / "bench")
    try:
        shutil.copytree(bench.data, small_disk / "agent")
        bench.edit("jidoka.toml", 'data = "../agent"', f'data = "{small_disk / "agent"}"')
        bench.data = small_disk / "agent"
        bench.start()
        bench.warm()
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as filling:
            try:
                while True:
                    filling.write(b"x" * 4096)
            except OSError:
                pass
        ended = bench.agent.wait(60.0)
        bench.agent = None
        assert ended.status == 1, ended
        assert "Traceback" not in ended.err
        said = ended.err.splitlines()[-1]
        assert str(small_disk) in said
        assert "free or mend the disk, then start again" in said
        assert jidoka("log", "verify", "--config", bench.config).status == 0
        again = jidoka_process("run", "--config", bench.config, within_s=60.0)
        assert (again.status, str(small_disk) in again.one_line_error) == (1, True), again
        filler.unlink()
        before = bench.last
        bench.start()
        bench.until("agent.started", after=before)
        bench.until("source.changed", lambda f: f.alive, after=before)
        assert bench.call("note", "room again").status == 0
        assert bench.stop().status == 0
        assert jidoka("log", "verify", "--config", bench.config).status == 0
        replayed = jidoka_process("replay", "run", "--config", bench.config)
        assert (replayed.status, "the same, byte for byte" in replayed.out) == (0, True), replayed
    finally:
        bench.close()


def test_disk_that_takes_nothing_more_halts_the_agent_and_a_restart_goes_on(tmp_path):
    """The same where no file system can be mounted: the process may not make any file longer."""
    bench = Bench(tmp_path / "bench")
    try:
        bench.start()
        bench.warm()
        resource.prlimit(bench.agent.pid, resource.RLIMIT_FSIZE, (0, 0))
        ended, bench.agent = bench.agent.wait(60.0), None
        assert (ended.status, "Traceback" in ended.err) == (1, False), ended
        assert str(bench.data) in ended.err.splitlines()[-1]
        assert "free or mend the disk, then start again" in ended.err.splitlines()[-1]
        before = bench.last
        bench.start()
        bench.until("agent.started", lambda f: f.epoch == 2, after=before)
        assert bench.call("note", "room again").status == 0
        assert bench.stop().status == 0
        assert jidoka("log", "verify", "--config", bench.config).status == 0
        replayed = jidoka_process("replay", "run", "--config", bench.config)
        assert (replayed.status, "the same, byte for byte" in replayed.out) == (0, True), replayed
    finally:
        bench.close()
