"""A supervised process: it ends with its standard input, in order if it can."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHIN_S = 30.0
ORDERLY_S = 0.2
ENDS_IN_ORDER = """
import signal, sys, time
def end(*_): print("in order", flush=True); sys.exit(7)
signal.signal(signal.SIGTERM, end)
"""
DOES_NOT_END = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
RUNS = f"from pipelines.supervised import end_with_stdin; end_with_stdin({ORDERLY_S}); print('runs', flush=True)"


@pytest.mark.parametrize(("program", "status", "said"), [(ENDS_IN_ORDER, 7, "in order"), (DOES_NOT_END, -9, "")])
def test_end_of_standard_input_ends_the_process_in_order_or_at_once(program, status, said):
    words = [sys.executable, "-c", f"{program}\n{RUNS}\nimport time; time.sleep({2 * WITHIN_S})"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "runs\n"
        assert process.poll() is None
        out, _ = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, out.strip()) == (status, said)


def test_module_has_its_own_arguments_and_status_as_if_called_by_itself():
    words = [sys.executable, "-m", "pipelines.supervised", "pipelines.cli", "keep", "--config", "nowhere"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr.read()
        assert process.wait(WITHIN_S) == 2
    assert said.startswith("jidoka: ")
    assert "it is missing" in said
