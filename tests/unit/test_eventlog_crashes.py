"""What a killed process, a full disk and a second writer leave of a SQLite log."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.eventlog.group import QUEUE_MAX, GroupCommit
from connectors.eventlog.reader import open_readonly
from connectors.eventlog.sqlite import SqliteStore
from connectors.eventlog.verify import verify
from schemas.errors import LogCorrupt, LogError, LogHalted
from tests.eventlog_support import CELL, HOUSE, clock, collect, file_size_limit, grow, make_log, run, state_fact

_APPENDING = """
import asyncio, sys
from pathlib import Path
from connectors.clock import SystemClock
from connectors.eventlog.sqlite import SqliteStore
from tests.eventlog_support import state_fact

async def caller(store, cell):
    taken = await store.take(cell)
    version, said = taken.version, taken.positions.get("in", 0)
    while True:
        facts = [state_fact(version), state_fact(version + 1)]
        done = await store.append(cell, facts, expected=version, advance={"in": (said, said + 1)}, epoch=taken.epoch)
        version, said = done.version, said + 1
        print(cell, version, said, flush=True)

async def main():
    store = SqliteStore.open(Path(sys.argv[1]), clock=SystemClock())
    await asyncio.gather(*(caller(store, f"cell{n}") for n in range(4)))

asyncio.run(main())
"""


def child(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, cwd=HOUSE)


def lines_until_killed(process: subprocess.Popen[bytes], lines_n: int) -> list[bytes]:
    """Read some lines, kill -9, and read what was said before."""
    assert process.stdout is not None
    with process.stdout:
        lines = [process.stdout.readline() for _ in range(lines_n)]
        process.kill()
        process.wait()
        return [*lines, *process.stdout.read().splitlines(keepends=True)]


@pytest.mark.parametrize("lines_n", [1, 13, 60, 211, 500])
def test_nothing_acknowledged_is_lost_by_kill_minus_9(tmp_path: Path, lines_n: int) -> None:
    acknowledged: dict[str, tuple[int, int]] = {}
    for line in lines_until_killed(child(_APPENDING, str(tmp_path)), lines_n):
        if line.endswith(b"\n"):
            cell, version, said = line.decode().split()
            acknowledged[cell] = (int(version), int(said))
    assert verify(tmp_path).ok

    async def look() -> None:
        async with SqliteStore.open(tmp_path, clock=clock()) as store:
            for cell, (version, said) in acknowledged.items():
                taken = await store.take(cell)
                assert taken.epoch == 2
                assert taken.version >= version
                assert taken.positions["in"] >= said
                assert taken.version == 2 * taken.positions["in"]
                assert len(await collect(store.read_cell(cell))) == taken.version

    run(look())
    assert verify(tmp_path).ok


def test_a_log_killed_again_and_again_stays_whole(tmp_path: Path) -> None:
    for lines_n in (40, 3, 17):
        lines_until_killed(child(_APPENDING, str(tmp_path)), lines_n)
        assert verify(tmp_path).ok


def test_death_between_commit_and_head_file_is_mended_at_the_next_start(tmp_path: Path) -> None:
    make_log(tmp_path, cells=(CELL,), appends_n=3)
    shutil.copy(tmp_path / "log.head", tmp_path / "head before")
    make_log(tmp_path, cells=(CELL,), appends_n=2)
    shutil.copy(tmp_path / "head before", tmp_path / "log.head")
    assert verify(tmp_path).ok

    async def look() -> None:
        async with SqliteStore.open(tmp_path, clock=clock()) as store:
            assert store.notes == ("log.head was 2 records behind: the process ended between commit and head; mended",)
            assert (await store.head()).position == 5
        async with SqliteStore.open(tmp_path, clock=clock()) as store:
            assert store.notes == ()
        async with open_readonly(tmp_path) as reader:
            assert (await reader.head()).position == 5

    run(look())


def test_a_torn_head_is_mended_from_the_other(tmp_path: Path) -> None:
    make_log(tmp_path, appends_n=3)
    for slot in range(2):
        text = bytearray((tmp_path / "log.head").read_bytes())
        text[slot * 4096 + 60 : slot * 4096 + 4096] = bytes(4036)
        (tmp_path / "log.head").write_bytes(text)
        assert verify(tmp_path).kind == "head_signature"

        async def look() -> None:
            async with SqliteStore.open(tmp_path, clock=clock()) as store:
                assert "one of the two heads in log.head was torn" in store.notes[0]

        run(look())
        assert verify(tmp_path).ok


@pytest.mark.parametrize("made", [(), ("log.key",), ("log.key", "log.pub"), ("log.key", "log.pub", "log.sqlite")])
def test_a_first_start_that_was_killed_is_finished_by_the_next(tmp_path: Path, made: Sequence[str]) -> None:
    make_log(tmp_path / "whole", appends_n=0)
    (tmp_path / "log").mkdir()
    for name in made:
        shutil.copy(tmp_path / "whole" / name, tmp_path / "log" / name)
    make_log(tmp_path / "log", appends_n=3)
    assert verify(tmp_path / "log").ok
    assert stat.S_IMODE((tmp_path / "log" / "log.key").stat().st_mode) == 0o600


def test_a_lost_key_or_one_that_others_can_read_stops_the_start(tmp_path: Path) -> None:
    make_log(tmp_path, appends_n=3)
    (tmp_path / "log.key").chmod(0o644)
    with pytest.raises(LogError, match=r"log\.key: others may read it: chmod 600"):
        SqliteStore.open(tmp_path, clock=clock())
    (tmp_path / "log.key").unlink()
    with pytest.raises(LogError, match=r"log\.key: No such file or directory: put the log's own key back"):
        SqliteStore.open(tmp_path, clock=clock())
    make_log(tmp_path / "other", appends_n=0)
    shutil.copy(tmp_path / "other" / "log.key", tmp_path / "log.key")
    with pytest.raises(LogError, match=r"log\.key: not the key of log\.pub"):
        SqliteStore.open(tmp_path, clock=clock())


def test_a_head_file_that_is_gone_stops_the_start(tmp_path: Path) -> None:
    make_log(tmp_path, appends_n=3)
    (tmp_path / "log.head").unlink()
    with pytest.raises(LogCorrupt, match="record 3: head_missing"):
        SqliteStore.open(tmp_path, clock=clock())


def test_a_second_writing_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    process = child(_APPENDING, str(tmp_path))
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(
        LogError, match=rf"{tmp_path}/log\.lock: process {process.pid} writes this log already: stop it"
    ):
        SqliteStore.open(tmp_path, clock=clock())
    assert verify(tmp_path).ok
    lines_until_killed(process, 1)
    make_log(tmp_path, appends_n=2)
    assert verify(tmp_path).ok


def test_a_reader_in_another_process_follows_what_is_written(tmp_path: Path) -> None:
    process = child(_APPENDING, str(tmp_path))
    assert process.stdout is not None
    process.stdout.readline()

    async def follow() -> list[int]:
        seen = []
        async with asyncio.timeout(30), open_readonly(tmp_path) as reader:
            async for record in reader.read_all(follow=True):
                seen.append(record.position)
                if record.position == 60:
                    break
        return seen

    assert run(follow()) == list(range(1, 61))
    lines_until_killed(process, 0)


async def append_until_halted(store: SqliteStore) -> int:
    """Return how many facts were acknowledged before the store halted."""
    taken = await store.take(CELL)
    version = taken.version
    while True:
        try:
            await store.append(CELL, [state_fact(version)] * 3, expected=version, advance={}, epoch=taken.epoch)
        except LogHalted:
            return version
        version += 3
        assert version < 30_000, "the disk never filled"


async def assert_halted_then_whole_again(store: SqliteStore, folder: Path, stored_n: int) -> None:
    with pytest.raises(LogHalted, match="free or mend the disk, then start again"):
        await store.append(CELL, [state_fact(0)], expected=stored_n, advance={}, epoch=1)
    with pytest.raises(LogHalted):
        await store.take("another cell")
    assert len(await collect(store.read_all())) == stored_n
    await store.close()
    async with SqliteStore.open(folder, clock=clock()) as again:
        taken = await again.take(CELL)
        assert taken.version == stored_n
        await again.append(CELL, [state_fact(0)], expected=stored_n, advance={}, epoch=taken.epoch)
    assert verify(folder).ok


def test_a_full_database_halts_the_store_and_a_reopened_one_goes_on(tmp_path: Path) -> None:
    async def go() -> None:
        store = SqliteStore.open(tmp_path, clock=clock())
        store._writer._db.execute("PRAGMA max_page_count = 30")
        stored_n = await append_until_halted(store)
        assert stored_n > 0
        await assert_halted_then_whole_again(store, tmp_path, stored_n)

    run(go())


@pytest.mark.parametrize("limit_bytes", [100_000, 200_001, 301_234])
def test_a_disk_that_takes_only_a_part_of_a_commit_halts_the_store(tmp_path: Path, limit_bytes: int) -> None:
    async def go() -> None:
        store = SqliteStore.open(tmp_path, clock=clock())
        with file_size_limit(limit_bytes):
            stored_n = await append_until_halted(store)
        await assert_halted_then_whole_again(store, tmp_path, stored_n)

    run(go())


def test_all_callers_of_a_group_that_fails_are_told(tmp_path: Path) -> None:
    async def go() -> None:
        store = SqliteStore.open(tmp_path, clock=clock())
        cells = [f"cell{n}" for n in range(20)]
        for cell in cells:
            await store.take(cell)
        store._writer._db.execute("PRAGMA query_only = ON")
        calls = [store.append(cell, [state_fact(1)], expected=0, advance={}, epoch=1) for cell in cells]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {LogHalted}
        assert await collect(store.read_all()) == []
        await store.close()

    run(go())
    assert verify(tmp_path).ok


@contextmanager
def unprivileged() -> Iterator[None]:
    """Do without root's right to write everywhere, if we have it."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


@pytest.fixture
def readonly_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_log(folder, appends_n=5)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(readonly_folder: Path) -> None:
    with unprivileged(), pytest.raises(LogError, match="Permission denied: name a folder that can be written"):
        SqliteStore.open(readonly_folder, clock=clock())
    readonly_folder.chmod(0o777)
    (readonly_folder / "log.lock").chmod(0o666)
    with unprivileged(), pytest.raises(LogError, match=r"log\.(sqlite|key): .*"):
        SqliteStore.open(readonly_folder, clock=clock())


def test_an_auditor_verifies_and_reads_a_folder_that_cannot_be_written(readonly_folder: Path) -> None:
    async def read() -> int:
        async with open_readonly(readonly_folder) as reader:
            return len(await collect(reader.read_all()))

    with unprivileged():
        assert verify(readonly_folder).ok
        assert run(read()) == 5


def test_a_file_in_the_folders_place_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    with pytest.raises(LogError, match="name a folder that can be written"):
        SqliteStore.open(tmp_path / "log", clock=clock())
    with pytest.raises(LogError, match="there is no log here"):
        open_readonly(tmp_path / "nowhere")


def test_a_caller_that_gives_up_does_not_disturb_the_others(tmp_path: Path) -> None:
    async def go() -> None:
        async with SqliteStore.open(tmp_path, clock=clock()) as store:
            await store.take(CELL)
            leaver = asyncio.create_task(store.append(CELL, [state_fact(1)], expected=0, advance={}, epoch=1))
            await asyncio.sleep(0)
            leaver.cancel()
            await grow(store, ("cell2",), 5)
            assert (await store.take(CELL)).version in (0, 1)

    run(go())
    assert verify(tmp_path).ok


def test_more_than_the_bound_of_waiting_appends_is_refused() -> None:
    started, release = threading.Event(), threading.Event()
    groups: list[int] = []

    def commit(group: Sequence[int]) -> Sequence[Any]:
        groups.append(len(group))
        started.set()
        release.wait(30)
        return [number * 2 for number in group]

    async def go() -> None:
        group = GroupCommit[int](commit, between=lambda paused: None)
        first = asyncio.create_task(group.submit(1))
        await asyncio.to_thread(started.wait, 30)
        waiting = [asyncio.create_task(group.submit(n)) for n in range(QUEUE_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(LogError, match=f"{QUEUE_MAX} appends wait already"):
            await group.submit(0)
        release.set()
        assert await first == 2
        assert await asyncio.gather(*waiting) == [n * 2 for n in range(QUEUE_MAX)]
        await group.end()

    run(go())
    assert groups == [1, 256, 256, 256, 256]


def test_the_wal_is_moved_into_the_database_while_the_log_grows(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("connectors.eventlog.writing.CHECKPOINT_COMMITS_MAX", 20)

    async def go() -> None:
        async with SqliteStore.open(tmp_path, clock=clock()) as store:
            await grow(store, (CELL,), 200)
            assert (tmp_path / "log.sqlite-wal").stat().st_size < 2_500_000
        assert not (tmp_path / "log.sqlite-wal").exists()

    run(go())
    assert verify(tmp_path).ok


def test_the_head_file_is_synced_in_a_pause(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("connectors.eventlog.writing.HEAD_SYNC_S", 0.0)

    async def go() -> None:
        async with SqliteStore.open(tmp_path, clock=clock()) as store:
            await grow(store, (CELL,), 3)
            async with asyncio.timeout(10):
                while store._writer._head_dirty:
                    await asyncio.sleep(0.01)
            slots = (tmp_path / "log.head").read_bytes()
            assert slots[:4096] == slots[4096:]

    run(go())
