"""Brings what the tests run against and pip cannot: Java, Maven, PostgreSQL, and the jars of one Kafka broker.

`make counterparts` runs it, and `make test` before every run. On Debian, as root, missing packages are installed;
anywhere else it says which are missing. The jars come through `deploy/kafka/pom.xml` and are fetched again when that
changes. With everything there it only looks. Needs nothing but Python's own library.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
POM = ROOT / "deploy/kafka/pom.xml"
JARS = ROOT / "var/kafka/jars"
"""As `connectors.kafka.jars.JARS`."""
ARCHIVE = JARS / "classes.jsa"
"""As `connectors.kafka.jars.ARCHIVE`."""
STAMP = "pom.sha256"
INSTALL_WITHIN_S = 600.0
FETCH_WITHIN_S = 600.0
ARCHIVE_WITHIN_S = 300.0
PACKAGES: Mapping[str, str] = {"java": "openjdk-17-jre-headless", "mvn": "maven", "initdb": "postgresql"}
"""Debian's package by the program that is needed of it."""
POSTGRES_BINARIES = Path("/usr/lib/postgresql")
"""Debian keeps PostgreSQL's programs here, by version, and not on the path."""


def present(program: str) -> bool:
    """Tell whether a program is on this machine."""
    return shutil.which(program) is not None or (
        program == "initdb" and any(POSTGRES_BINARIES.glob("*/bin/initdb"))
    )  # fmt: skip


def install_missing() -> None:
    """Install the packages that are missing, or end with their names."""
    missing = [package for program, package in PACKAGES.items() if not present(program)]
    if not missing:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"make counterparts: the tests need {', '.join(missing)}. On Debian: sudo {command}")
    print(f"make counterparts: installing {', '.join(missing)}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["apt-get", "update", "-q"], command.split()):
        done = subprocess.run(words, env=quiet, stdout=subprocess.DEVNULL, timeout=INSTALL_WITHIN_S, check=False)
    if done.returncode != 0:
        sys.exit(f"make counterparts: apt-get could not install {', '.join(missing)}. Run it yourself: {command}")


def fetch_jars() -> None:
    """Fetch the jars that the pom names, unless they are those of this very pom."""
    wanted = hashlib.sha256(POM.read_bytes()).hexdigest()
    stamp = JARS / STAMP
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return
    print(f"make counterparts: fetching the jars of {POM.relative_to(ROOT)}", flush=True)
    shutil.rmtree(JARS, ignore_errors=True)
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"]
    words = ["mvn", "--batch-mode", "--quiet", "--file", str(POM), *goal]
    if subprocess.run(words, stdin=subprocess.DEVNULL, timeout=FETCH_WITHIN_S, check=False).returncode != 0:
        sys.exit("make counterparts: Maven could not fetch the jars. Check that it reaches a repository (settings.xml)")
    stamp.write_text(wanted, encoding="ascii")


def archive_classes() -> None:
    """Let one broker run once, so that every later start takes half of the processor time."""
    if ARCHIVE.exists():
        return
    words = [sys.executable, "-m", "connectors.kafka.foreground", "--archive"]
    # Without it brokers only start slower.
    subprocess.run(words, cwd=ROOT, timeout=ARCHIVE_WITHIN_S, check=False)


if __name__ == "__main__":
    install_missing()
    fetch_jars()
    archive_classes()
