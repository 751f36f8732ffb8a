"""The supervisor of the Kafka runtime is killed: nothing that it started goes on without it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.support.bench import Process
from tests.support.collecting_trials import until
from tests.support.kafka_broker import emptied
from tests.support.kafka_faults.line import configure

NAMES = ("collect", "detect", "decide", "keep")
ENDED_WITHIN_S = 30.0


def children_of(pid: int) -> dict[int, list[str]]:
    """Words of the running processes that one has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(each): Path(f"/proc/{each}/cmdline").read_text().split("\0") for each in found}


def names_of(children: dict[int, list[str]]) -> set[str]:
    return {name for name in NAMES for words in children.values() if name in words}


def runs(pid: int) -> bool:
    """Whether it does; one that has ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_children_of_a_supervisor_that_is_killed_end_by_themselves(kafka_broker, tmp_path):
    configuration = configure(tmp_path / "config", emptied(kafka_broker), cells_n=1)
    up = Process("pipelines.cli", "up", "--config", configuration.folder)
    pids: list[int] = []
    try:
        said = ""
        while not ("collecting" in said and "deciding" in said):
            line = up.first_line()
            assert line, said
            said += line
        until(lambda: names_of(children_of(up.pid)) == {*NAMES}, "all four run")
        pids = [*children_of(up.pid)]
        up.end(signal.SIGKILL)
        ends_s = time.monotonic() + ENDED_WITHIN_S
        while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < ends_s:
            time.sleep(0.05)
        # Was: all four went on, and the next start had two of each.
        assert left == []
    finally:
        up.end(signal.SIGKILL)
        for pid in pids:
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
