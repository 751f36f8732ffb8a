"""Blobs: in files and in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent.ports import Blobs
from connectors.eventlog.blobs import FileBlobs, MemoryBlobs
from connectors.eventlog.postgres_blobs import PostgresBlobs
from schemas.errors import LogCorrupt, LogError
from tests.eventlog_support import file_size_limit
from tests.support.postgres import PostgresServer, backends_ended


@pytest.fixture(params=["file", "memory", "postgres"])
def blobs(request: Any, tmp_path: Path) -> Iterator[Blobs]:
    if request.param == "postgres":
        in_postgres = PostgresBlobs(request.getfixturevalue("postgres"))
        yield in_postgres
        in_postgres.close()
    else:
        yield FileBlobs(tmp_path / "deep" / "blobs") if request.param == "file" else MemoryBlobs()


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 1000])
def test_what_was_put_is_got_by_its_sha256(blobs: Blobs, data: bytes) -> None:
    assert blobs.put(data) == sha256(data).hexdigest()
    assert blobs.put(data) == sha256(data).hexdigest()
    assert blobs.get(sha256(data).hexdigest()) == data


@pytest.mark.parametrize("name", ["0" * 64, "", "../../etc/passwd", "A" * 64, "é" * 64])
def test_what_was_not_put_is_a_key_error(blobs: Blobs, name: str) -> None:
    with pytest.raises(KeyError):
        blobs.get(name)


def test_threads_may_put_and_get_at_once(blobs: Blobs) -> None:
    wrong: list[bytes] = []

    def one(number: int) -> None:
        for data in (b"same", b"%d" % number):
            if blobs.get(blobs.put(data)) != data:
                wrong.append(data)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_a_blob_edited_in_the_database_is_corrupt_and_named(postgres_server: PostgresServer, postgres: Any) -> None:
    blobs = PostgresBlobs(postgres)
    name = blobs.put(b"policy")
    with postgres_server.admin(postgres.database) as db:
        with pytest.raises(Exception, match="UPDATE on blobs: facts are immutable"):
            db.execute("UPDATE jidoka.blobs SET data = 'Policy'")
        db.execute("SET session_replication_role = replica")
        db.execute("UPDATE jidoka.blobs SET data = 'Policy'")
    with pytest.raises(LogCorrupt, match=f"blob {name} has 6 bytes that hash to"):
        blobs.get(name)
    blobs.close()


def test_a_lost_connection_is_made_again(postgres_server: PostgresServer, postgres: Any) -> None:
    blobs = PostgresBlobs(postgres)
    backends_ended(postgres_server, postgres.database)
    name = blobs.put(b"policy")
    backends_ended(postgres_server, postgres.database)
    assert blobs.get(name) == b"policy"
    blobs.close()
    with pytest.raises(LogError, match="closed"):
        blobs.put(b"policy")


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
