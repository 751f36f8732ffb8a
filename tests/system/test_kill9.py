"""kill -9 at twelve named points of a corrective story, against a plant in another process, over OPC UA."""

from __future__ import annotations

import pytest

from tests.support.killing import MORE, POINTS, killed_once


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Folder of the first run: its keys and users serve the others."""
    return tmp_path_factory.mktemp("kill9")


@pytest.mark.parametrize(("at", "count"), POINTS, ids=[f"{at}-{count}" for at, count in POINTS])
def test_killed_agent_goes_on_and_nothing_is_done_twice_or_lost(keys, at, count):
    """Log against ledger: every entry was intended, acted once and has one end; the log verifies and replays."""
    runs = sorted(keys.iterdir())
    assert killed_once(keys / f"{len(runs):02}", at, count, runs[0] if runs else None) == []


def test_every_point_is_named_once():
    assert len(set(POINTS + MORE)) == len(POINTS) + len(MORE)
    assert len(POINTS) == 12
