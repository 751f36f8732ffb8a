"""The collector's spool: what damage, a full spool, a full disk and a restart leave, and which numbers come next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.kafka.codec import Arrived, decode_message
from connectors.kafka.intake import Intake
from connectors.kafka.spool import Spool
from connectors.kafka.spoolfiles import HEADER, NOTE, spool_starts
from connectors.kafka.syncing import Syncer
from schemas.errors import LogCorrupt, LogError, LogHalted
from schemas.samples import Gap, LineEvent, SampleBatch, Tick
from tests.eventlog_support import file_size_limit

CELL = "a/b/c/d/e"
OTHER = "a/b/c/d/f"
TAGS = {CELL: "1" * 64, OTHER: "2" * 64}
EPOCH = 1_790_000_000


@contextmanager
def spooled(folder: Path, **changes: Any) -> Iterator[tuple[Spool, Intake]]:
    spool = Spool(folder, **({"bytes_max": 1_000_000, "first_epoch": EPOCH} | changes))
    try:
        yield spool, Intake(spool, TAGS)
    finally:
        spool.close()


def batch(first: int, n: int = 10, *, source: str = "s", at: int | None = None) -> SampleBatch:
    times = np.full(n, first if at is None else at, np.int64)
    values = np.arange(first, first + n, dtype=np.float64)
    return SampleBatch(source, 0, 0, np.ones(n, np.uint32), times, times, values, np.zeros(n, np.uint32))


def tick(at: int, source: str = "s") -> Tick:
    return Tick(source, 0, 0, at, alive=True)


def read(spool: Spool, after: int | None = None) -> list[Arrived]:
    """All that may be sent."""
    got: list[Arrived] = []
    after = spool.acknowledged if after is None else after
    while stored := spool.read(after=after, bytes_max=5_000):
        got += [decode_message(s.message.key, s.message.value, s.message.headers) for s in stored]
        after = stored[-1].position
    return got


def acknowledge(spool: Spool, n: int | None = None) -> None:
    spool.acknowledge(spool.read(after=spool.acknowledged, bytes_max=10**9)[:n])


def places(got: list[Arrived]) -> list[tuple[int, int]]:
    return [(each.input.epoch, each.input.seq) for each in got]


def filled(folder: Path, n: int = 60, **changes: Any) -> None:
    """Messages of two sources in turn, all synced, over several files."""
    with spooled(folder, **({"bytes_max": 200_000} | changes)) as (spool, intake):
        for number in range(n):
            cell, source = (CELL, "s") if number % 2 == 0 else (OTHER, "t")
            intake.take(cell, number, batch(10 * number, source=source, at=number))
            spool.sync()
    assert len(spool_starts(folder)) > 3


def test_what_is_synced_can_be_read_and_nothing_else(tmp_path):
    with spooled(tmp_path) as (spool, intake):
        intake.take(CELL, 5, tick(1))
        assert read(spool) == []
        spool.sync()
        intake.take(CELL, 6, tick(2))
        assert [each.at for each in read(spool)] == [5]
        assert (spool.position, spool.synced, spool.acknowledged) == (2, 1, 0)


def test_numbers_are_gapless_per_source_and_time_never_goes_back_within_a_cell(tmp_path):
    with spooled(tmp_path) as (spool, intake):
        for at, source in ((10, "s"), (8, "t"), (12, "s"), (11, "s")):
            intake.take(CELL, at, tick(at, source))
        intake.take(OTHER, 3, tick(3, "u"))
        spool.sync()
        got = read(spool)
        assert [each.at for each in got] == [10, 10, 12, 12, 3]
        assert places(got) == [(EPOCH, 0), (EPOCH, 0), (EPOCH, 1), (EPOCH, 2), (EPOCH, 0)]


def test_epoch_and_numbers_go_on_while_something_waits_and_the_time_between_is_a_gap(tmp_path):
    with spooled(tmp_path) as (spool, intake):
        intake.take(CELL, 100, tick(1))
        intake.take(CELL, 200, tick(2))
        spool.sync()
        acknowledge(spool, 1)
    with spooled(tmp_path) as (spool, intake):
        assert spool.epoch == EPOCH
        intake.take(CELL, 900, tick(3))
        spool.sync()
        got = read(spool)
        assert places(got) == [(EPOCH, 1), (EPOCH, 2), (EPOCH, 3)]
        assert got[-2].input == Gap("s", EPOCH, 2, (), 200, 900, "the collector was not running")


def test_an_empty_spool_begins_the_next_epoch_and_still_knows_until_when_it_had_collected(tmp_path):
    for times in range(3):
        with spooled(tmp_path) as (spool, intake):
            assert spool.epoch == EPOCH + times
            intake.take(CELL, 100 * (times + 1), tick(1))
            spool.sync()
            acknowledge(spool)
            assert spool.empty
    assert spool_starts(tmp_path) != []
    with spooled(tmp_path) as (spool, intake):
        assert spool_starts(tmp_path) == []
        intake.take(CELL, 1_000, tick(2))
        spool.sync()
        gap, _ = read(spool)
        assert gap.input == Gap("s", EPOCH + 3, 0, (), 300, 1_000, "the collector was not running")


def test_an_epoch_in_which_nothing_was_taken_is_none(tmp_path):
    for _ in range(3):
        with spooled(tmp_path) as (spool, _):
            epoch = spool.epoch
    assert epoch == EPOCH + 2


def test_files_are_deleted_when_a_broker_has_all_of_them_and_the_note_says_so(tmp_path):
    filled(tmp_path)
    starts = spool_starts(tmp_path)
    with spooled(tmp_path, bytes_max=200_000) as (spool, intake):
        acknowledge(spool, starts[2])
        assert spool_starts(tmp_path) == starts
        spool.note()
        assert spool_starts(tmp_path) == starts[2:]
        acknowledge(spool)
        spool.note()
        assert spool_starts(tmp_path) == starts[-1:]
        intake.take(CELL, 1_000, tick(2))
        spool.sync()
        assert len(read(spool)) == 2


def test_what_was_acknowledged_and_not_noted_is_sent_again(tmp_path):
    filled(tmp_path)
    spool = Spool(tmp_path, bytes_max=200_000, first_epoch=1)
    acknowledge(spool, 30)
    spool._halted = "killed"
    spool.close()
    with spooled(tmp_path) as (spool, _):
        assert len(read(spool)) == 60


def test_a_full_spool_takes_no_samples_counts_them_and_tells_the_gap_before_anything_else(tmp_path):
    with spooled(tmp_path, bytes_max=40_000) as (spool, intake):
        number = 0
        while intake.take(CELL, number, batch(10 * number, 50, at=number)):
            number += 1
        first_lost = number
        for number in range(first_lost + 1, first_lost + 5):
            assert not intake.take(CELL, number, batch(10 * number, 50, at=number))
        assert intake.counters.lost_samples_n == 5 * 50
        # Ticks and line events have room of their own, and none of them may come before the gap.
        assert intake.take(CELL, number, LineEvent("s", 0, 0, "packml.state", number, 9))
        spool.sync()
        gap, line = read(spool)[-2:]
        assert gap.input == Gap("s", EPOCH, first_lost, (), first_lost, number, "spool full")
        assert isinstance(line.input, LineEvent)
        assert not intake.take(CELL, number, batch(1, 50, at=number))
        acknowledge(spool)
        spool.note()
        assert intake.take(CELL, number + 9, batch(1, 50, at=number + 9))
        spool.sync()
        assert [type(each.input) for each in read(spool)] == [Gap, SampleBatch]
        assert intake.counters.gaps_n == 2


def test_when_even_small_messages_find_no_room_all_of_them_are_in_one_gap(tmp_path):
    with spooled(tmp_path, bytes_max=40_000) as (spool, intake):
        number = 0
        while intake.take(CELL, number, tick(number)):
            number += 1
        for at in range(number, number + 50):
            intake.take(CELL, at, tick(at))
        assert intake.counters.lost_messages_n == 51
        assert sum(path.stat().st_size for path in tmp_path.glob("spool-*")) <= 40_000
        spool.sync()
        acknowledge(spool)
        spool.note()
        intake.take(CELL, 500, tick(500))
        spool.sync()
        gap, _ = read(spool)
        assert (gap.input.from_at, gap.input.until_at) == (number, number + 49)


def test_one_source_that_lost_something_does_not_speak_for_another(tmp_path):
    with spooled(tmp_path, bytes_max=40_000) as (spool, intake):
        while intake.take(CELL, 1, batch(0, 50, at=1)):
            pass
        intake.take(OTHER, 2, tick(2, "t"))
        intake.take(CELL, 2, tick(2))
        spool.sync()
        assert [type(each.input) for each in read(spool)][-3:] == [Tick, Gap, Tick]


@pytest.mark.parametrize("cut", [1, 7, 40, 400])
def test_a_torn_tail_is_cut_and_the_next_epoch_begins(tmp_path, cut):
    filled(tmp_path)
    path = max(tmp_path.glob("spool-*.jk"))
    path.write_bytes(path.read_bytes()[:-cut])
    with spooled(tmp_path, bytes_max=200_000) as (spool, intake):
        assert spool.torn_bytes > 0
        assert spool.damage == ()
        assert spool.position == 59
        assert spool.epoch == EPOCH + 1
        intake.take(OTHER, 200, batch(0, source="t", at=200))
        spool.sync()
        gap, after = read(spool)[-2:]
        assert places([gap, after]) == [(EPOCH + 1, 0), (EPOCH + 1, 1)]
        assert gap.input.from_at == 57


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def test_a_damaged_message_in_the_middle_is_named_passed_over_and_told_as_a_gap_in_its_place(tmp_path, caplog):
    filled(tmp_path)
    path = sorted(tmp_path.glob("spool-*.jk"))[1]
    flip(path, len(HEADER) + 300)
    lost = spool_starts(tmp_path)[1]
    with spooled(tmp_path) as (spool, _):
        assert spool.damage == (
            f"{path} at byte {len(HEADER)}: message {lost} does not verify: it is passed over and told as a gap; "
            "check the disk (dmesg, smartctl)",
        )
        assert spool.damage[0] in caplog.text
        got = read(spool)
        assert len(got) == 60
        (gap,) = [each for each in got if isinstance(each.input, Gap)]
        assert got.index(gap) == lost - 1
        source, seq = ("s", (lost - 1) // 2) if lost % 2 else ("t", lost // 2 - 1)
        assert gap.input == Gap(source, EPOCH, seq, (), lost - 3, lost + 1, "the spool was damaged")
        assert spool.epoch == EPOCH + 1


def test_damage_is_passed_over_again_until_everything_around_it_is_acknowledged(tmp_path):
    filled(tmp_path)
    flip(sorted(tmp_path.glob("spool-*.jk"))[1], len(HEADER) + 300)
    for n in (10, 10, 30, 10):
        with spooled(tmp_path) as (spool, _):
            before_n = len(read(spool))
            acknowledge(spool, n)
            assert len(read(spool)) == before_n - n
    with spooled(tmp_path) as (spool, _):
        assert spool.empty
        assert spool.damage == ()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_overwritten_no_number_is_missing_between_two_that_are_there(tmp_path, seed):
    filled(tmp_path)
    rng = np.random.default_rng(seed)
    paths = sorted(tmp_path.glob("spool-*.jk"))
    for path in rng.choice(paths[:-1], int(rng.integers(1, 4)), replace=False):
        data = bytearray(path.read_bytes())
        begin = int(rng.integers(len(data)))
        data[begin : begin + 700] = rng.bytes(len(data[begin : begin + 700]))
        path.write_bytes(data)
    if seed % 3 == 0:
        paths[1].unlink()
    with spooled(tmp_path, bytes_max=400_000) as (spool, intake):
        assert spool.damage
        intake.take(CELL, 500, tick(500))
        intake.take(OTHER, 500, tick(500, "t"))
        spool.sync()
        got = read(spool)
    for source in ("s", "t"):
        mine = [each for each in got if each.input.source == source]
        numbers = [each.input.seq for each in mine if each.input.epoch == EPOCH]
        assert numbers == list(range(30))
        values = [each.input.value[0] for each in mine if isinstance(each.input, SampleBatch)]
        assert values == sorted(values)
        assert places(mine)[-2:] == [(EPOCH + 1, 0), (EPOCH + 1, 1)]
    lost_n = 60 - sum(isinstance(each.input, SampleBatch) for each in got)
    assert lost_n == sum(each.input.reason == "the spool was damaged" for each in got if isinstance(each.input, Gap))


def test_a_file_that_is_damaged_while_the_collector_runs_stops_it_with_file_and_offset(tmp_path):
    filled(tmp_path)
    with spooled(tmp_path) as (spool, _):
        path = sorted(tmp_path.glob("spool-*.jk"))[0]
        flip(path, len(HEADER) + 300)
        with pytest.raises(LogCorrupt, match=rf"{path} at byte {len(HEADER)}: it does not verify any more: start"):
            spool.read(after=0, bytes_max=10)


def test_a_note_that_does_not_verify_is_refused_and_without_it_everything_is_sent_again(tmp_path):
    filled(tmp_path)
    with spooled(tmp_path) as (spool, _):
        acknowledge(spool, 20)
    left = spool_starts(tmp_path)[0]
    flip(tmp_path / NOTE, 80)
    with pytest.raises(LogError, match=rf"{tmp_path / NOTE} at byte 0: it does not verify: move it away"):
        Spool(tmp_path, bytes_max=1_000_000, first_epoch=1)
    (tmp_path / NOTE).unlink()
    with spooled(tmp_path) as (spool, _):
        assert len(read(spool)) == 60 - left + 1
        assert spool.epoch == EPOCH + 1


def test_a_full_disk_halts_the_spool_and_keeps_what_was_synced(tmp_path):
    with spooled(tmp_path) as (spool, intake):
        intake.take(CELL, 1, batch(0))
        spool.sync()
        too_much = batch(0, n=2_000)
        with file_size_limit(3_000), pytest.raises(LogHalted, match=r"append failed: File too large: free or mend"):
            intake.take(CELL, 2, too_much)
        with pytest.raises(LogHalted, match="then start again"):
            intake.take(CELL, 3, tick(3))
        with pytest.raises(LogHalted):
            spool.sync()
    with spooled(tmp_path) as (spool, _):
        assert len(read(spool)) == 1
        assert spool.torn_bytes == 0


def test_the_syncer_ends_with_the_disks_failure(tmp_path):
    with spooled(tmp_path) as (spool, intake):
        syncer = Syncer(spool)
        intake.take(CELL, 1, tick(1))
        spool._halted = "the disk is gone"
        syncer.start()
        syncer.join(10)
        assert not syncer.is_alive()
        assert isinstance(syncer.failure, LogHalted)


def test_the_syncer_makes_everything_durable_soon_and_at_its_end(tmp_path):
    with spooled(tmp_path) as (spool, intake):
        syncer = Syncer(spool)
        syncer.start()
        for number in range(20):
            intake.take(CELL, number, tick(number))
            assert spool.news.wait(10)
            spool.news.clear()
        intake.take(CELL, 99, tick(99))
        syncer.stop()
        assert spool.synced == spool.position == 21
        assert len(read(spool)) == 21


def test_a_second_process_is_refused_and_a_closed_spool_takes_nothing(tmp_path):
    with spooled(tmp_path) as (spool, intake), pytest.raises(LogError, match="writes this log already"):
        Spool(tmp_path, bytes_max=1, first_epoch=1)
    with pytest.raises(LogError, match="the spool is closed"):
        intake.take(CELL, 1, tick(1))
    spool.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match="name a folder that can be written"):
        Spool(tmp_path / "file" / "spool", bytes_max=1, first_epoch=1)
