"""What `make test` brings before the tests: named where it cannot, silent and quick where all is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from connectors.kafka.jars import ARCHIVE, JARS, missing
from tests.support.kafka_broker import need_kafka

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/counterparts.py"


def run(path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path}
    return subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip


def test_what_is_missing_is_named_with_the_command_that_brings_it(tmp_path):
    done = run(str(tmp_path))
    assert done.returncode == 1
    assert "the tests need openjdk-17-jre-headless, maven" in done.stderr
    assert "apt-get install -y --no-install-recommends openjdk-17-jre-headless maven" in done.stderr


def test_with_everything_there_it_says_nothing():
    need_kafka()
    done = run(os.environ["PATH"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_fills_the_folder_in_which_the_broker_looks():
    need_kafka()
    assert missing() == ""
    assert (JARS / "pom.sha256").exists()
    assert ARCHIVE.exists()
    assert {path.name.split("-")[0] for path in JARS.glob("*.jar")} >= {"kafka", "kafka_2.13", "log4j"}
