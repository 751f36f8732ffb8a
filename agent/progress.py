"""The fold of one command: where it stands after a fact about it. Pure and total."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, assert_never

from agent.incident import CommandProgress
from schemas import facts
from schemas.outcomes import Answered, NotSent, Unknown

CommandFact = (
    facts.GuardJudged | facts.ApprovalRequested | facts.ApprovalGranted | facts.SnapshotTaken | facts.CommandIntended
    | facts.CommandAnswered | facts.ReadbackTaken | facts.CommandCompleted | facts.CommandFailed
    | facts.CommandUnresolved | facts.TagsRebaselined | facts.EffectVerified | facts.EffectAbsent
)  # fmt: skip


def subject(fact: CommandFact) -> str:
    """Return the id of the command (or of the person's request) that a fact is about."""
    match fact:
        case facts.CommandIntended():
            return fact.command.command_id
        case facts.TagsRebaselined():
            return fact.cause_id
        case facts.SnapshotTaken():
            return fact.subject_id
        case _:
            return fact.command_id


def moved(progress: CommandProgress, fact: CommandFact) -> CommandProgress:
    """Return the command's progress after a fact about it."""
    match fact:
        case facts.GuardJudged():
            return _judged(progress, fact)
        case facts.ApprovalRequested():
            return replace(progress, approvals_needed=fact.approvals, decide_by_at=fact.decide_by_at)
        case facts.ApprovalGranted():
            progress = replace(progress, approvers=(*progress.approvers, fact.who))
            if len(progress.approvers) < progress.approvals_needed:
                return progress
            progress = replace(progress, decided_at=fact.at)
            return replace(progress, phase="awaiting_snapshot", since_at=fact.at, round=progress.round + 1)
        case facts.CommandIntended():
            return replace(progress, phase="intended", since_at=fact.at, attempt=fact.attempt)
        case facts.CommandAnswered():
            return _answered(progress, fact)
        case facts.ReadbackTaken() if progress.phase == "reading_back" and showed_nothing(fact):
            return replace(progress, unread=progress.unread + 1, round=progress.round + 1)
        case facts.CommandCompleted():
            phase: Literal["verifying", "ended"] = "verifying" if fact.verify else "ended"
            return replace(
                progress,
                phase=phase,
                since_at=fact.at,
                result="completed",
                moves=fact.moves,
                settle_s=fact.settle_s,
            )
        case facts.CommandFailed():
            return replace(progress, phase="ended", since_at=fact.at, result="failed")
        case facts.CommandUnresolved():
            return replace(progress, phase="unresolved", since_at=fact.at)
        case facts.TagsRebaselined():
            return replace(progress, moves=())
        case facts.EffectVerified() if progress.phase == "verifying":
            return replace(progress, phase="ended", since_at=fact.at, result="effective")
        case facts.EffectAbsent() if progress.phase == "verifying":
            return replace(progress, phase="ended", since_at=fact.at, result="absent")
        case facts.SnapshotTaken() | facts.ReadbackTaken() | facts.EffectVerified() | facts.EffectAbsent():
            return progress
    assert_never(fact)


def showed_nothing(fact: facts.ReadbackTaken) -> bool:
    """Whether a set-point could not be read: that says nothing about the command."""
    return bool(fact.failure) or not all(reading.good for reading in fact.readings.values())


def _judged(progress: CommandProgress, fact: facts.GuardJudged) -> CommandProgress:
    match fact.decision, fact.stage:
        case "permitted", "proposal":
            progress = replace(progress, decided_at=fact.at)
            return replace(progress, phase="awaiting_snapshot", since_at=fact.at, round=progress.round + 1)
        case "needs_approval", "proposal":
            return replace(progress, phase="awaiting_approval", since_at=fact.at)
        case "refused", _ if fact.retry:
            return replace(progress, phase="waiting", since_at=fact.at, retries=progress.retries + 1)
        case "refused", _:
            return replace(progress, phase="ended", since_at=fact.at, result="failed")
        case _:
            return progress


def _answered(progress: CommandProgress, fact: facts.CommandAnswered) -> CommandProgress:
    if not progress.awaits(fact.by):
        return progress
    progress = replace(progress, queries=progress.queries + (fact.by == "query"))
    match fact.outcome:
        case Answered(state="done"):
            return replace(progress, phase="reading_back", since_at=fact.at)
        case Answered(state="running"):
            return replace(progress, phase="query_pause", since_at=fact.at)
        case Answered(state="never_seen") if fact.by == "query":
            # The query raised the fence: what was sent before can no longer be accepted.
            return replace(progress, phase="awaiting_snapshot", since_at=fact.at, round=progress.round + 1)
        case Unknown() | NotSent() if fact.by == "query":
            # A query that did not leave says nothing about the send before it.
            return replace(progress, phase="query_pause", since_at=fact.at)
        case Unknown() | Answered(state="never_seen"):
            # "Never seen" in answer to a send is no fence: the frame may still be on its way.
            return replace(progress, phase="querying", since_at=fact.at, round=progress.round + 1)
        case Answered() | NotSent():
            return progress  # rejected, forgotten, not sent: the step says what that means
    assert_never(fact.outcome)
