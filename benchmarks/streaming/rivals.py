"""Runs the peers in their own environment, made on first use below `var/`, which git does not see."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / "var/peers/venv"
REQUIREMENTS = HERE.parent / "requirements-peers.txt"
INSTALL_WITHIN_S, RUN_WITHIN_S = 300.0, 120.0
FORMS = (
    ("quix.py", "event", 100_000),
    ("bytewaxed.py", "event", 200_000),
    ("quix.py", "batch", 1_500_000),
    ("bytewaxed.py", "batch", 1_500_000),
)
"""Script, form, samples."""


def environment() -> Path | str:
    """Return the peers' Python; or why there is none."""
    python = ENVIRONMENT / "bin/python"
    asked = [str(python), "-c", "import bytewax, pyarrow, quixstreams"]
    if python.exists() and subprocess.run(asked, capture_output=True, check=False).returncode == 0:
        return python
    print(f"making {ENVIRONMENT} for the peers", file=sys.stderr, flush=True)
    venv.create(ENVIRONMENT, with_pip=True)
    words = [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    return python if done.returncode == 0 else f"pip: {done.stderr.strip()[-300:]}"


def run_peers(broker: str, topic: str) -> dict[str, object]:
    """Run all forms on a topic; returns the samples per second of one core, or why there are none."""
    python = environment()
    if isinstance(python, str):
        return {"not run": python}
    return {f"{script.removesuffix('.py')} {form}": _run(python, script, broker, topic, form, samples)
            for script, form, samples in FORMS}  # fmt: skip


def _run(python: Path, script: str, broker: str, topic: str, form: str, samples: int) -> object:
    words = [str(python), str(HERE / "peers" / script), broker, topic, form, str(samples)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else f"it failed: {done.stderr.strip()[-300:]}"
