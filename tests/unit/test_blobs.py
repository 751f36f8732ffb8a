"""Blobs: in files and in memory."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent.ports import Blobs
from connectors.eventlog.blobs import FileBlobs, MemoryBlobs
from schemas.errors import LogCorrupt, LogError
from tests.eventlog_support import file_size_limit


@pytest.fixture(params=["file", "memory"])
def blobs(request: Any, tmp_path: Path) -> Blobs:
    return FileBlobs(tmp_path / "deep" / "blobs") if request.param == "file" else MemoryBlobs()


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 1000])
def test_what_was_put_is_got_by_its_sha256(blobs: Blobs, data: bytes) -> None:
    assert blobs.put(data) == sha256(data).hexdigest()
    assert blobs.put(data) == sha256(data).hexdigest()
    assert blobs.get(sha256(data).hexdigest()) == data


@pytest.mark.parametrize("name", ["0" * 64, "", "../../etc/passwd", "A" * 64, "é" * 64])
def test_what_was_not_put_is_a_key_error(blobs: Blobs, name: str) -> None:
    with pytest.raises(KeyError):
        blobs.get(name)


def test_an_edited_file_is_corrupt_and_named(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    name = blobs.put(b"policy")
    path = tmp_path / name[:2] / name[2:]
    path.write_bytes(b"Policy")
    with pytest.raises(LogCorrupt, match=f"blob: {path}"):
        blobs.get(name)


def test_a_disk_that_takes_only_a_part_leaves_no_blob_behind(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    data = b"x" * 10_000
    with file_size_limit(5_000), pytest.raises(LogError, match="cannot store 10000 bytes"):
        blobs.put(data)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert blobs.get(blobs.put(data)) == data
