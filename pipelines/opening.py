"""The facts with which an agent begins: who it is, and which configuration it adopted."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

from agent.ports import Blobs
from pipelines.config import Configuration
from schemas.facts import AgentStarted, AnyFact, AutonomyRaised, ConfigAdopted

VERSION = "0.1.0"
PACKAGES = ("schemas", "agent", "connectors", "pipelines")


@cache
def code_sha256() -> str:
    """Return the hash over this tree's own Python files, by path: what decided, to the byte."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def opening_facts(
    configuration: Configuration, blobs: Blobs, *, at: int, mode: Literal["observe", "act"], epoch: int, who: str
) -> list[AnyFact]:
    """Return the opening facts; every file's bytes are a blob before the fact that names it."""
    started = AgentStarted(at=at, version=VERSION, code_sha256=code_sha256(), mode=mode, epoch=epoch)
    adopted = [
        ConfigAdopted(at=at, name=name, sha256=blobs.put(data), who=who, reason="start")
        for name, data in configuration.files.items()
    ]
    raised = [
        AutonomyRaised(at=at, action=p.action, who=p.raised_by, reason=p.reason)
        for p in configuration.policy.actions
        if p.autonomy == "auto"
    ]
    return [*adopted, *raised, started]
