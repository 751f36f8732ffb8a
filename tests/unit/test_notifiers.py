"""Reaching a person: the program of the site's own."""

from __future__ import annotations

import asyncio
import sys

import pytest

from connectors.notifiers.command import CommandNotifier
from schemas.errors import ConnectionFault


def notify(command: list[str], timeout_s: float = 10.0) -> None:
    asyncio.run(CommandNotifier(command, timeout_s).notify("a title", "a text; $(touch x)", urgent=True))


def test_title_and_text_are_the_last_two_arguments_and_no_shell_reads_them(tmp_path):
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('|'.join(sys.argv[2:]))"
    notify([sys.executable, "-c", script, str(tmp_path / "said")])
    assert (tmp_path / "said").read_text() == "a title|a text; $(touch x)"


def test_a_program_that_is_not_there_is_a_fault_that_names_it():
    with pytest.raises(ConnectionFault, match="'/nonexistent/pager' cannot be started"):
        notify(["/nonexistent/pager"])


def test_a_program_that_fails_is_a_fault_with_its_status():
    with pytest.raises(ConnectionFault, match="ended with status 3"):
        notify([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_program_that_hangs_is_ended():
    with pytest.raises(ConnectionFault, match=r"more than 0.2 s"):
        notify([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2)
