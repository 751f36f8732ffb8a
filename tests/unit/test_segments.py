"""Kept input in segment files: what a crash, a full disk and damage leave of it."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.eventlog.frames import file_header
from connectors.eventlog.segment_reading import Stretch, read_kept, segment_starts, stretches
from connectors.eventlog.segments import SegmentWriter
from schemas.errors import LogCorrupt, LogError, LogHalted
from schemas.samples import Kept
from tests.eventlog_support import CELL, HOUSE, file_size_limit, inputs, same_input


@contextmanager
def writer(folder: Path, **changes: Any) -> Iterator[SegmentWriter]:
    settings: dict[str, Any] = {"cell": CELL, "bytes_max": 10_000, "keep_bytes": 1_000_000}
    opened = SegmentWriter(folder, **(settings | changes))
    try:
        yield opened
    finally:
        opened.close()


def keep(folder: Path, kept: list[Kept], **changes: Any) -> None:
    with writer(folder, **changes) as segments:
        for one in kept:
            if segments.append(one):
                segments.rotate()
        segments.sync()


def assert_same(got: list[Kept], sent: list[Kept]) -> None:
    assert [k.position for k in got] == [k.position for k in sent]
    assert all(same_input(a, b) for a, b in zip(got, sent, strict=True))


def last_file(folder: Path) -> Path:
    return max(folder.glob("segment-*.jk"))


def test_inputs_of_all_kinds_come_back_bit_for_bit_over_several_files(tmp_path: Path) -> None:
    sent = inputs(200)
    keep(tmp_path / "cell", sent)
    assert len(segment_starts(tmp_path / "cell")) > 3
    assert_same(list(read_kept(tmp_path / "cell")), sent)


@pytest.mark.parametrize(("after", "until"), [(0, 1), (17, 60), (99, 100), (100, None), (40, 40), (63, None)])
def test_a_range_is_read_by_its_positions(tmp_path: Path, after: int, until: int | None) -> None:
    sent = inputs(100)
    keep(tmp_path, sent)
    assert_same(list(read_kept(tmp_path, after=after, until=until)), sent[after:until])


def test_an_empty_or_missing_folder_has_no_input(tmp_path: Path) -> None:
    assert list(read_kept(tmp_path)) == []
    assert segment_starts(tmp_path / "missing") == []


def test_a_writer_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    sent = inputs(60)
    for begin in range(0, 60, 20):
        with writer(tmp_path) as segments:
            assert segments.position == begin
        keep(tmp_path, sent[begin : begin + 20])
    assert_same(list(read_kept(tmp_path)), sent)


def test_positions_must_follow_each_other(tmp_path: Path) -> None:
    first, second, third = inputs(3)
    with writer(tmp_path) as segments:
        segments.append(first)
        for wrong in (first, third):
            with pytest.raises(ValueError, match=f"input {wrong.position} cannot follow 1"):
                segments.append(wrong)
        segments.append(second)
    assert_same(list(read_kept(tmp_path)), [first, second])


def test_a_rotation_is_due_at_bytes_max_and_begins_at_the_next_position(tmp_path: Path) -> None:
    with writer(tmp_path, bytes_max=2_000) as segments:
        due = [segments.append(one) for one in inputs(12)]
        assert due == sorted(due)
        assert due[-1]
        segments.rotate()
        segments.rotate()
    assert segment_starts(tmp_path) == [1, 13]


def test_another_cells_folder_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, inputs(2))
    with pytest.raises(LogError, match=r"keeps the input of cell '.*', not of 'other'"):
        SegmentWriter(tmp_path, cell="other", bytes_max=1, keep_bytes=1)


def sizes(folder: Path) -> dict[int, int]:
    return {start: (folder / f"segment-{start:020d}.jk").stat().st_size for start in segment_starts(folder)}


def test_pinned_input_does_not_starve_what_nobody_has_pinned(tmp_path: Path) -> None:
    """Was: pinned bytes beyond `keep_bytes` left nothing of the input since, at each rotation."""
    keep(tmp_path, inputs(100), bytes_max=2_000)
    before = sizes(tmp_path)
    starts = sorted(before)
    last_pinned = starts[len(starts) // 2]
    pinned_bytes = sum(size for start, size in before.items() if start <= last_pinned)
    with writer(tmp_path, keep_bytes=pinned_bytes, pins=lambda: [(1, last_pinned)]) as segments:
        segments.append(inputs(101)[-1])
        segments.rotate()
    assert set(starts) <= set(segment_starts(tmp_path))


def test_pinned_input_has_a_bound_of_its_own_and_the_oldest_goes(tmp_path: Path, caplog: Any) -> None:
    """Was: an incident that stayed open pinned all that followed until the disk was full."""
    keep(tmp_path, inputs(100), bytes_max=2_000)
    before = sizes(tmp_path)
    starts = sorted(before)
    room = sum(before[start] for start in starts[2:])
    with writer(tmp_path, keep_pinned_bytes=room, pins=lambda: [(1, 1 << 62)]) as segments:
        segments.append(inputs(101)[-1])
        segments.rotate()
    left = segment_starts(tmp_path)
    assert left[:-1] == starts[len(starts) - len(left) + 1 :]
    assert 2 <= len(starts) - len(left[:-1]) <= 3
    assert caplog.text.count("pinned, and deleted") == len(starts) - len(left[:-1])


def test_the_oldest_files_go_but_pinned_ones_stay_and_what_is_gone_is_said(tmp_path: Path) -> None:
    keep(tmp_path, inputs(100), bytes_max=2_000)
    starts = segment_starts(tmp_path)
    pinned = starts[2]
    with writer(tmp_path, keep_bytes=4_000, pins=lambda: [(pinned, pinned)]) as segments:
        segments.append(inputs(101)[-1])
        segments.rotate()
    left = segment_starts(tmp_path)
    assert left[0] == pinned
    assert starts[1] not in left
    assert starts[3] not in left
    assert sum(p.stat().st_size for p in tmp_path.glob("*.jk")) < 4_000 + 2 * 4_000
    with pytest.raises(LogError, match=f"inputs 4 to {pinned - 1} are not kept any more"):
        list(read_kept(tmp_path, after=3))
    got = list(read_kept(tmp_path, until=starts[3] - 1))
    assert [k.position for k in got] == list(range(pinned, starts[3]))
    with pytest.raises(LogError, match=f"inputs {starts[3]} to .* are not kept any more"):
        list(read_kept(tmp_path))


def test_the_file_is_an_exact_prefix_at_whatever_byte_a_crash_cut_it(tmp_path: Path) -> None:
    sent = inputs(6)
    with writer(tmp_path / "whole") as segments:
        for one in sent:
            segments.append(one)
        next_one = inputs(7)[-1]
    whole = last_file(tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    path = cut / "segment-00000000000000000001.jk"
    seen = set()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        read = list(read_kept(cut))
        assert_same(read, sent[: len(read)])
        is_edge = len(read) not in seen
        seen.add(len(read))
        if is_edge or end % 8 == 0:
            with writer(cut) as segments:
                assert segments.position == len(read)
                assert path.stat().st_size == max(len(file_header(CELL)), end - segments.torn_bytes)
                segments.append([*sent, next_one][len(read)])
            assert_same(list(read_kept(cut)), [*sent, next_one][: len(read) + 1])
    assert seen == set(range(7))


def test_any_flipped_bit_is_found_or_in_a_tail_that_was_never_synced(tmp_path: Path) -> None:
    sent = inputs(8)
    with writer(tmp_path) as segments:
        for one in sent:
            segments.append(one)
            if one.position % 2 == 0:
                segments.sync()
    path = last_file(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    outcomes = {"corrupt": 0, "tail": 0}
    for offset in sorted({*range(60), *rng.choice(len(whole), 600, replace=False).tolist()}):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            read = list(read_kept(tmp_path))
        except LogCorrupt:
            outcomes["corrupt"] += 1
            with pytest.raises(LogCorrupt, match=rf"{path} at byte \d+"):
                SegmentWriter(tmp_path, cell=CELL, bytes_max=1, keep_bytes=1)
            continue
        # Frames 7 and 8: no later frame can say that they were synced.
        assert len(read) in (6, 7)
        assert_same(read, sent[: len(read)])
        outcomes["tail"] += 1
    assert outcomes["corrupt"] > 300
    assert outcomes["tail"] > 10


def test_damage_in_an_older_file_is_named_with_its_offset(tmp_path: Path) -> None:
    keep(tmp_path, inputs(60), bytes_max=3_000)
    first = min(tmp_path.glob("*.jk"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    with pytest.raises(LogCorrupt, match=rf"{first} at byte \d+: the checksum of input \d+ does not hold: restore"):
        list(read_kept(tmp_path))
    first.write_bytes(b"not a segment at all")
    with pytest.raises(LogCorrupt, match=f"{first} at byte 0: the file does not begin as a segment"):
        list(read_kept(tmp_path))


def test_unsynced_frames_out_of_order_after_a_power_cut_are_a_torn_tail(tmp_path: Path) -> None:
    sent = inputs(9)
    with writer(tmp_path) as segments:
        for one in sent[:4]:
            segments.append(one)
        segments.sync()
        begin = last_file(tmp_path).stat().st_size
        for one in sent[4:]:
            segments.append(one)
    path = last_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[begin : begin + 20] = bytes(20)  # The page of frame 5 never reached the disk, those of 6 to 9 did.
    path.write_bytes(data)
    assert_same(list(read_kept(tmp_path)), sent[:4])
    with writer(tmp_path) as segments:
        assert (segments.position, segments.torn_bytes) == (4, len(data) - begin)


def test_a_full_disk_halts_the_writer_and_leaves_no_half_of_a_frame(tmp_path: Path) -> None:
    sent = inputs(20)
    with writer(tmp_path) as segments:
        with file_size_limit(4_000), pytest.raises(LogHalted, match="File too large"):
            [segments.append(one) for one in sent]
        kept_n = segments.position
        assert 0 < kept_n < 20
        with pytest.raises(LogHalted):
            segments.append(sent[kept_n])
    assert_same(list(read_kept(tmp_path)), sent[:kept_n])
    with writer(tmp_path) as segments:
        assert segments.torn_bytes == 0
        segments.append(sent[kept_n])
    assert_same(list(read_kept(tmp_path)), sent[: kept_n + 1])


_KILLED = """
import os, signal, sys
from pathlib import Path
from connectors.eventlog.segments import SegmentWriter
from tests.eventlog_support import CELL, inputs
segments = SegmentWriter(Path(sys.argv[1]), cell=CELL, bytes_max=20_000, keep_bytes=10**9)
for one in inputs(2_000):
    if segments.append(one):
        segments.rotate()
    print(one.position, flush=True)
"""


@pytest.mark.parametrize("lines_n", [1, 50, 333])
def test_what_was_appended_survives_kill_minus_9(tmp_path: Path, lines_n: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=HOUSE)
    assert child.stdout is not None
    with child.stdout:
        said = [int(child.stdout.readline()) for _ in range(lines_n)]
        child.kill()
        child.wait()
        said += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
    got = list(read_kept(tmp_path))
    assert len(got) >= said[-1]
    assert_same(got, inputs(len(got)))


def test_a_reader_beside_the_writer_stops_before_a_frame_that_is_half_written(tmp_path: Path) -> None:
    sent = inputs(3)
    keep(tmp_path, sent)
    with last_file(tmp_path).open("ab") as file:
        file.write(struct.pack("<II", 500, 0) + b"begun")
    assert_same(list(read_kept(tmp_path)), sent)


def test_a_closed_writer_takes_nothing(tmp_path: Path) -> None:
    with writer(tmp_path) as segments:
        segments.close()
        with pytest.raises(LogError, match="closed"):
            segments.append(inputs(1)[0])


def test_stretches_behind_a_position_read_only_the_files_that_may_hold_it(tmp_path: Path) -> None:
    sent = inputs(60)
    with writer(tmp_path, bytes_max=1) as segments:
        for one in sent:
            if segments.append(one):
                segments.rotate()
    starts = segment_starts(tmp_path)
    (tmp_path / f"segment-{starts[0]:020d}.jk").write_bytes(b"damaged")
    with pytest.raises(LogCorrupt):
        stretches(tmp_path)
    assert stretches(tmp_path, after=30) == [Stretch(30, 60)]


@pytest.mark.parametrize("rotated", [False, True])
def test_what_will_never_be_kept_is_a_hole_between_two_files(tmp_path: Path, rotated: bool) -> None:
    sent = inputs(30)
    with writer(tmp_path / "cell", bytes_max=10**6) as segments:
        for each in sent[:10]:
            segments.append(each)
        if rotated:  # The new file holds nothing when the hole begins.
            segments.rotate()
        segments.skip(7)
        segments.skip(20)
    with writer(tmp_path / "cell", bytes_max=10**6) as segments:
        assert segments.position == 20
        for each in sent[20:]:
            segments.append(each)
    assert stretches(tmp_path / "cell") == [Stretch(1, 10), Stretch(21, 30)]
    assert_same(list(read_kept(tmp_path / "cell", after=20)), sent[20:])
    with pytest.raises(LogError, match="inputs 11 to 20 are not kept"):
        list(read_kept(tmp_path / "cell"))
