"""Questions to the guard that pass in every rule, so that a test changes only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from agent.cell import CellState
from agent.guard.check import RULES, check
from agent.guard.question import Question, Rulebook, Snapshot
from agent.incident import CommandProgress, Episode, Sent
from schemas.commands import Command, Reading, Verdict
from tests.support.builders import START, command, detected, readings
from tests.support.demo import CELL, demo_rules


def ask(
    action: str = "set_motion_speed",
    *,
    rules: Rulebook | None = None,
    stage: str = "dispatch",
    read: dict[str, Reading] | None = None,
    read_at: int = START,
    off_file: bool = False,
    state: dict[str, Any] | None = None,
    others: tuple[CommandProgress, ...] = (),
    history: tuple[Sent, ...] = (),
    distrusted: tuple[str, str] | None = None,
    attempt: int = 1,
    approvers: tuple[str, ...] = ("anna",),
    decided_at: int | None = None,
    evidence_at: int | None = START,
    at: int = START,
    sha256: str = "",
    phase: Any = "awaiting_snapshot",
    **changes: Any,
) -> Question:
    """A question about the demo's `action`; `distrusted` is (tag, detector) of an open data-quality episode."""
    rules = rules or demo_rules()
    asked = changes.pop("command", None) or command(action, **changes)
    progress = CommandProgress(asked, asked.sha256(), phase=phase, attempt=attempt - 1)
    episodes = {}
    if distrusted is not None:
        opened = detected(START, "part_slip_mm", "q1")
        episodes["q1"] = Episode(msgspec.structs.replace(opened, tag=distrusted[0], detector=distrusted[1]))
    values: dict[str, Any] = {"mode": "act", "commands": {p.command.command_id: p for p in (progress, *others)}}
    return Question(
        command=asked,
        sha256=sha256 or asked.sha256(),
        action=rules.catalogue.action(action),
        rules=rules,
        state=replace(CellState(CELL), **{**values, "history": history, "episodes": episodes, **(state or {})}),
        at=at,
        stage="dispatch" if stage == "dispatch" else "proposal",
        evidence_at=evidence_at,
        snapshot=Snapshot(read_at, readings(START) if read is None else read, off_file)
        if stage == "dispatch"
        else None,
        decided_at=at if decided_at is None else decided_at,
        approvers=approvers,
        attempt=attempt,
    )


def other(action: str, phase: Any, **changes: Any) -> CommandProgress:
    """Another command of the cell."""
    asked: Command = command(action, **{"command_id": f"other-{action}", "plan_id": "p2", **changes})
    return CommandProgress(asked, asked.sha256(), phase=phase)


def verdict(question: Question, rule: str) -> Verdict:
    """What one rule says, by the rule's name in its verdict."""
    (found,) = [v for v in (judge(question) for judge in RULES) if v.rule == rule]
    return found


def refused_by(question: Question) -> list[str]:
    """The rules that refuse, in their order."""
    return [v.rule for v in check(question).verdicts if v.result == "refused"]
