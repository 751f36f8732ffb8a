"""The life of one command: judged, approved, judged again on a fresh snapshot, intended, done, proven."""

from __future__ import annotations

import msgspec

from agent import planning
from agent.guard.check import check
from agent.guard.question import ATTEMPTS_MAX, Question, Snapshot
from agent.incident import CommandProgress, PlanProgress
from agent.progress import showed_nothing
from agent.turn import Turn
from schemas import facts
from schemas.outcomes import Answered, NotSent, Unknown


def start_step(turn: Turn, plan: PlanProgress) -> None:
    """Judge the plan's present command for the first time."""
    progress = turn.state.commands[plan.commands[plan.step]]
    judged = check(_question(turn, progress, plan, "proposal", None))
    turn.conclude(judged)
    match judged.decision:
        case "refused":
            planning.end_step(turn, plan.plan_id, why(judged), done=False)
        case "needs_approval":
            decide_by_at = turn.at + int(turn.rules.policy.decide_s * 1e6)
            turn.conclude(
                facts.ApprovalRequested(
                    at=turn.at,
                    command_id=judged.command_id,
                    command_sha256=judged.command_sha256,
                    approvals=judged.approvals,
                    decide_by_at=decide_by_at,
                )
            )
        case "permitted":
            pass  # the fold has moved it: a fresh snapshot


def refusal_ahead(turn: Turn, plan: PlanProgress) -> facts.GuardJudged | None:
    """Return the first of a plan's steps that the guard would refuse already now; None: there is none."""
    for command_id in plan.commands:
        judged = check(_question(turn, turn.state.commands[command_id], plan, "proposal", None))
        if judged.decision == "refused":
            return judged
    return None


def on_snapshot(turn: Turn, fact: facts.SnapshotTaken, progress: CommandProgress) -> None:
    """Judge for the second time, on fresh readings; permitted means intended."""
    plan = planning.plan_of(turn.state, progress.command.plan_id)
    if plan is None or progress.phase != "awaiting_snapshot":
        return
    snapshot = Snapshot(fact.read_at, {} if fact.failure else fact.readings, fact.off_file)
    judged = check(_question(turn, progress, plan, "dispatch", snapshot))
    if judged.decision == "refused" and judged.retry and progress.retries >= turn.rules.policy.retries_max:
        judged = msgspec.structs.replace(judged, retry=False)
    turn.conclude(judged)
    if judged.decision == "permitted":
        attempt = progress.attempt + 1
        turn.conclude(
            facts.CommandIntended(at=turn.at, command=progress.command, command_sha256=progress.sha256, attempt=attempt)
        )
    elif not judged.retry and progress.attempt:
        _fail(turn, progress, f"the robot never saw it, and it may not be sent any more: {fact.failure or why(judged)}")
    elif not judged.retry:
        planning.end_step(turn, plan.plan_id, fact.failure or why(judged), done=False)


def on_answer(turn: Turn, fact: facts.CommandAnswered, before: CommandProgress) -> None:
    """Conclude what the robot's word means. `before` is the progress before the fact was applied."""
    if not before.awaits(fact.by):
        return
    queried_enough = fact.by == "query" and before.queries >= turn.rules.policy.query_retries_max
    match fact.outcome:
        case Answered(state="rejected") as answer:
            _fail(turn, before, f"the robot rejected it: code {answer.code}, {answer.detail}")
        case NotSent() as answer if fact.by == "send":
            _fail(turn, before, f"not sent: {answer.reason}")
        case Answered(state="forgotten"):
            _unresolved(turn, before, "the robot's ledger no longer reaches back to it")
        case Answered(state="never_seen") if fact.by == "query" and before.attempt >= ATTEMPTS_MAX:
            _fail(turn, before, f"the robot never saw it, {before.attempt} times")
        case Answered(state="never_seen") if fact.by == "query" and turn.state.mode != "act":
            _fail(turn, before, "the robot never saw it, and mode is observe: nothing is sent")
        case (Unknown() | NotSent()) as answer if queried_enough:
            _unresolved(turn, before, f"no answer after {before.queries} queries: {answer.reason}")
        case Answered(state="running") if queried_enough:
            _unresolved(turn, before, f"still running after {before.queries} queries")
        case _:
            pass  # the fold has moved it: reading back, asking (again), or a fresh snapshot


def on_readback(turn: Turn, fact: facts.ReadbackTaken, progress: CommandProgress) -> None:
    """Done when the set-points read as asked; one that cannot be read is read again, up to the bound of queries."""
    action = turn.rules.catalogue.action(progress.command.action)
    if progress.phase != "reading_back":
        return
    if action is None:
        _unresolved(turn, progress, f"{progress.command.action!r} is no longer in the catalogue")
        return
    if showed_nothing(fact):
        if progress.unread >= turn.rules.policy.query_retries_max:
            shown = fact.failure or "its set-points have no good value"
            _unresolved(turn, progress, f"the robot said done, but {shown}")
        return
    for argument in action.args:
        reading, asked = fact.readings.get(argument.tag), progress.command.args.get(argument.name, float("nan"))
        value = reading.value if reading is not None else None
        if value is None or not abs(value - asked) <= argument.tolerance:
            _fail(turn, progress, f"the robot said done, but {argument.tag} reads {value}, asked was {asked:g}")
            return
    verify = action.postcondition is not None and progress.command.origin != "compensation"
    turn.conclude(
        facts.CommandCompleted(
            at=turn.at,
            command_id=progress.command.command_id,
            moves=action.moves,
            settle_s=action.settle_s,
            verify=verify,
        )
    )
    if not verify:
        planning.end_step(turn, progress.command.plan_id, "", done=True)


def _fail(turn: Turn, progress: CommandProgress, reason: str) -> None:
    turn.conclude(facts.CommandFailed(at=turn.at, command_id=progress.command.command_id, reason=reason))
    planning.end_step(turn, progress.command.plan_id, reason, done=False)


def _unresolved(turn: Turn, progress: CommandProgress, reason: str) -> None:
    turn.conclude(facts.CommandUnresolved(at=turn.at, command_id=progress.command.command_id, reason=reason))
    planning.end_step(turn, progress.command.plan_id, reason, done=False)


def ask_no_more(turn: Turn, reason: str) -> None:
    """Leave what may have left to a person: in this mode no robot is asked, and it must not stay open for ever."""
    for progress in list(turn.state.commands.values()):
        if progress.phase in ("querying", "query_pause", "reading_back"):
            _unresolved(turn, progress, reason)


def _question(
    turn: Turn, progress: CommandProgress, plan: PlanProgress, stage: str, snapshot: Snapshot | None
) -> Question:
    incident = turn.state.incidents.get(plan.incident_id)
    from_evidence = plan.origin == "reasoner" and incident is not None
    return Question(
        command=progress.command,
        sha256=progress.sha256,
        action=turn.rules.catalogue.action(progress.command.action),
        rules=turn.rules,
        state=turn.state,
        at=turn.at,
        stage="dispatch" if stage == "dispatch" else "proposal",
        evidence_at=incident.evidence.row_at if from_evidence and incident is not None else None,
        snapshot=snapshot,
        decided_at=progress.decided_at,
        approvers=progress.approvers,
        attempt=progress.attempt + 1,
    )


def why(judged: facts.GuardJudged) -> str:
    """Return what the guard had against it, for people."""
    against = [v for v in judged.verdicts if v.result != "passed"]
    refusals = [v for v in against if v.result == "refused"] or against
    return "; ".join(f"{v.rule}: {v.reason}" for v in refusals)
