"""`jidoka off` and `jidoka on`: the file stops everything at once, and goes only when the agent has agreed."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.hosting import Folders
from tests.support.bench import jidoka

ON = {"ok": True, "did": "on"}
OFF = {"ok": True, "did": "off"}
REFUSED = {"ok": False, "error": "say which cell: a, b"}


@contextmanager
def agent(data: Path, *answers: dict):
    """A process at the operator socket that gives these answers, one a connection; yields what it was asked."""
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(Folders(data).socket))
        listening.listen()

        def serve() -> None:
            for answer in answers:
                with listening.accept()[0] as client, client.makefile("rb") as lines:
                    asked.append(json.loads(lines.readline())["kind"])
                    client.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(timeout=5.0)


def cells(n: int) -> dict:
    return {"ok": True, "cells": [{"cell": f"c{k}"} for k in range(n)]}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder whose off file is there; its socket's path must be short."""
    monkeypatch.chdir(tmp_path)
    Folders(tmp_path).off_file.touch()
    return Path()


def test_on_takes_the_file_away_once_the_agent_has_agreed(data):
    with agent(data, ON, cells(1)) as asked:
        said = jidoka("on", "--data", data)
    assert (said.status, asked) == (0, ["on", "status"])
    assert not Folders(data).off_file.exists()


def test_on_that_is_refused_leaves_the_file(data):
    """Was: the file went first, and an agent that had said no was free to send."""
    with agent(data, REFUSED):
        said = jidoka("on", "--data", data)
    assert (said.status, said.out.strip()) == (1, "refused: say which cell: a, b")
    assert Folders(data).off_file.exists()


def test_on_without_an_agent_leaves_the_file(data):
    """Was: the file went, although an agent that hangs and comes back was never asked."""
    said = jidoka("on", "--data", data)
    assert said.status != 0
    assert Folders(data).off_file.exists()


def test_on_for_one_cell_of_several_leaves_the_file_that_stops_them_all(data):
    with agent(data, ON, cells(2)):
        said = jidoka("on", "--cell", "c0", "--data", data)
    assert said.status == 0
    assert "still stops every cell" in said.out
    assert Folders(data).off_file.exists()


@pytest.mark.parametrize(("words", "there"), [([], True), (["--cell", "c0"], False)])
def test_off_makes_the_file_unless_it_is_for_one_cell(data, words, there):
    Folders(data).off_file.unlink()
    with agent(data, OFF):
        assert jidoka("off", *words, "--data", data).status == 0
    assert Folders(data).off_file.exists() is there
