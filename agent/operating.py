"""What people ask for: approve, deny, request, hold, off, on, resolve, note, ask."""

from __future__ import annotations

from agent import planning
from agent.asking import following
from agent.turn import Turn
from schemas import facts
from schemas.facts import OperatorRequested
from schemas.plans import PlannedAction


def on_request(turn: Turn, fact: OperatorRequested) -> None:
    """React to a request that was not seen before."""
    match fact.kind:
        case "approve":
            _approve(turn, fact)
        case "deny":
            _deny(turn, fact)
        case "request" | "hold":
            _check_request(turn, fact)
        case "off" | "on":
            _switch(turn, fact, on=fact.kind == "on")
        case "resolve":
            _resolve(turn, fact)
        case "rebaseline":
            _check_tags(turn, fact)
        case "ask":
            following.on_request(turn, fact)
        case "note":
            pass  # the request itself is the note


def on_snapshot(turn: Turn, fact: facts.SnapshotTaken, request: OperatorRequested) -> None:
    """The set-points are known now: make the command that was asked for."""
    if request.kind == "ask":
        following.on_setpoints(turn, fact, request)
        return
    if fact.failure:
        _refuse(turn, request, "freshness.snapshot", f"the set-points cannot be read: {fact.failure}")
        return
    name = _action_name(turn, request)
    action = turn.rules.catalogue.action(name)
    if action is None:
        _refuse(turn, request, "scope", f"{name!r} is not in the catalogue")
        return
    age_s, limit_s = (turn.at - request.at) / 1e6, turn.rules.policy.decision_max_age_s
    if not 0.0 <= age_s <= limit_s:
        _refuse(turn, request, "freshness.decision", f"it was asked for {age_s:.0f} s ago, allowed are {limit_s:g} s")
        return
    incident_id = planning.incident_on(turn.state, planning.asset_of(turn.rules, action))
    planning.propose_single(turn, request, incident_id, PlannedAction(name, dict(request.args)))


def _approve(turn: Turn, fact: OperatorRequested) -> None:
    progress = turn.state.commands.get(fact.target)
    if progress is None or progress.phase != "awaiting_approval":
        _refuse(turn, fact, "approval.target", "no command of this id waits for approval")
    elif not turn.at < progress.decide_by_at:
        _refuse(turn, fact, "approval.expired", "the time to decide is over")
    elif fact.command_sha256 != progress.sha256:
        _refuse(turn, fact, "approval.hash", "what you saw is not what would run: look again")
    elif fact.who in progress.approvers:
        _refuse(turn, fact, "approval.same_person", f"{fact.who} has approved already: another person must")
    else:
        turn.conclude(
            facts.ApprovalGranted(at=turn.at, command_id=fact.target, command_sha256=progress.sha256, who=fact.who)
        )


def _deny(turn: Turn, fact: OperatorRequested) -> None:
    progress = turn.state.commands.get(fact.target)
    if progress is None or progress.phase != "awaiting_approval":
        _refuse(turn, fact, "approval.target", "no command of this id waits for approval")
        return
    reason = f"denied by {fact.who}: {fact.reason or 'no reason given'}"
    planning.end_step(turn, progress.command.plan_id, reason, done=False)


def _action_name(turn: Turn, fact: OperatorRequested) -> str:
    return turn.rules.hold_action if fact.kind == "hold" else fact.target


def _check_request(turn: Turn, fact: OperatorRequested) -> None:
    """Refuse at once what no snapshot could make right."""
    name = _action_name(turn, fact)
    if turn.state.mode != "act":
        _refuse(turn, fact, "mode", "mode is observe: nothing is sent")
    elif not name:
        _refuse(turn, fact, "scope", "policy.toml names no hold_action")
    elif turn.rules.catalogue.action(name) is None:
        known = ", ".join(a.name for a in turn.rules.catalogue.actions)
        _refuse(turn, fact, "scope", f"{name!r} is not in the catalogue; there are {known}")


def _check_tags(turn: Turn, fact: OperatorRequested) -> None:
    known = {tag.name for tag in turn.rules.cell.tags}
    unknown = sorted(set(fact.target.split(",")) - known) if fact.target else []
    if unknown:
        _refuse(turn, fact, "scope", f"plant.toml has no tag {', '.join(unknown)}")


def _switch(turn: Turn, fact: OperatorRequested, *, on: bool) -> None:
    turn.conclude(facts.AutomationSwitched(at=turn.at, on=on, who=fact.who, reason=fact.reason))
    if not on:
        _drop_plans(turn, f"{fact.who} switched automation off")


def drop_all(turn: Turn, reason: str) -> None:
    """Drop what has not left yet: requests, and plans whose present command is not intended."""
    for request in list(turn.state.requests.values()):
        _refuse(turn, request, "mode", reason)
    _drop_plans(turn, reason)


def _drop_plans(turn: Turn, reason: str) -> None:
    for plan in list(turn.state.plans.values()):
        phase = turn.state.commands[plan.commands[plan.step]].phase
        if phase in ("proposed", "awaiting_approval", "awaiting_snapshot", "waiting"):
            planning.drop(turn, plan, reason)


def _resolve(turn: Turn, fact: OperatorRequested) -> None:
    progress = turn.state.commands.get(fact.target)
    if progress is None or progress.phase != "unresolved":
        _refuse(turn, fact, "resolve.target", "no command of this id is unresolved")
        return
    turn.conclude(
        facts.CommandFailed(
            at=turn.at, command_id=fact.target, reason=f"looked at by {fact.who}: {fact.reason or 'no reason given'}"
        )
    )


def _refuse(turn: Turn, fact: OperatorRequested, rule: str, reason: str) -> None:
    turn.conclude(facts.RequestRefused(at=turn.at, request_id=fact.request_id, rule=rule, reason=reason))
