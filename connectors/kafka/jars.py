"""Where the parts of a local broker are: Java, and the jars that `make counterparts` brought. For tests and benches."""

from __future__ import annotations

import shutil
from pathlib import Path

JARS = Path(__file__).parents[2] / "var" / "kafka" / "jars"
"""Filled by `deploy/counterparts.py` from `deploy/kafka/pom.xml`."""
ARCHIVE = JARS / "classes.jsa"
"""The broker's classes as Java keeps them in memory: a start with it takes half of the processor time."""
REMEDY = "Run `make counterparts` in the source tree"


def missing(jars: Path = JARS) -> str:
    """Return what a broker lacks on this machine and the remedy; empty: nothing.

    >>> missing(Path("no/such/folder")).startswith("no ")
    True
    """
    if shutil.which("java") is None:
        return f"no java on this machine. {REMEDY}"
    if not any(jars.glob("kafka_2.13-*.jar")):
        return f"no Kafka jars in {jars}. {REMEDY}"
    return ""
