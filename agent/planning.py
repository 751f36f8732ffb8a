"""From an answer to commands, from one step to the next, and what follows when an effect stays absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent import acting
from agent.cell import CellState
from agent.guard.question import Rulebook
from agent.identity import derive
from agent.incident import CommandProgress, PlanProgress
from agent.turn import Turn
from schemas import facts
from schemas.catalogue import Action
from schemas.commands import Command, CommandOrigin
from schemas.facts import OperatorRequested
from schemas.plans import Finding, Plan, PlannedAction, ReasonerRequest


def plan_of(state: CellState, plan_id: str) -> PlanProgress | None:
    """Return the plan if it is still in work."""
    return state.plans.get(plan_id)


def propose(turn: Turn, request: ReasonerRequest, plan: Plan, who: str) -> None:
    """Turn a usable answer into commands and start with the first.

    An action whose set-points already are as asked is left out: it would prove nothing.
    """
    plan_id = derive(request.request_id, "plan")
    planned = [action for finding in plan.findings for action in finding.actions]
    wanted = [p for p in planned if not _in_force(p, turn.state, turn.rules)]
    commands = _commands(turn, plan_id, request.incident_id, wanted, "plan")
    turn.conclude(
        facts.PlanProposed(
            at=turn.at,
            plan_id=plan_id,
            incident_id=request.incident_id,
            origin="reasoner",
            tier=request.tier,
            who=who,
            findings=plan.findings,
            commands=commands,
        )
    )
    if commands:
        acting.start_step(turn, turn.state.plans[plan_id])
        return
    turn.conclude(facts.PlanCompleted(at=turn.at, plan_id=plan_id))
    if request.tier == "proposal" and not planned:
        escalate(turn, request.incident_id, "the reasoner knows no action for this")


def propose_single(turn: Turn, request: OperatorRequested, incident_id: str, action: PlannedAction) -> None:
    """Start a plan of one action that a person asked for.

    Its id is not the person's to choose: it is made of the request, who asked, and when.
    """
    plan_id = derive(turn.state.cell, "request", request.request_id, request.who, str(request.at))
    asset = asset_of(turn.rules, turn.rules.catalogue.action(action.name))
    finding = Finding(evidence="", asset=asset, diagnosis=f"requested by {request.who}", actions=(action,))
    commands = _commands(turn, plan_id, incident_id, [action], "operator")
    _conclude_for_a_person(turn, request, plan_id, incident_id, (finding,), commands)
    acting.start_step(turn, turn.state.plans[plan_id])


def propose_asked(turn: Turn, request: OperatorRequested, plan: Plan) -> None:
    """Start a plan that a person asked for in plain language: as a whole, or not at all.

    What the guard would refuse of any step is refused now, before the first one waits for approval.
    """
    plan_id = derive(turn.state.cell, "sentence", request.request_id, request.who, str(request.at))
    planned = [action for finding in plan.findings for action in finding.actions]
    incident_id = next((found for f in plan.findings if f.actions and (found := incident_on(turn.state, f.asset))), "")
    commands = _commands(turn, plan_id, incident_id, planned, "sentence")
    _conclude_for_a_person(turn, request, plan_id, incident_id, plan.findings, commands)
    progress = turn.state.plans[plan_id]
    if (against := acting.refusal_ahead(turn, progress)) is None:
        acting.start_step(turn, progress)
        return
    turn.conclude(against)
    drop(turn, progress, acting.why(against))


def _conclude_for_a_person(
    turn: Turn,
    request: OperatorRequested,
    plan_id: str,
    incident_id: str,
    findings: tuple[Finding, ...],
    commands: tuple[Command, ...],
) -> None:
    turn.conclude(
        facts.PlanProposed(
            at=turn.at,
            plan_id=plan_id,
            incident_id=incident_id,
            origin="operator",
            tier="proposal",
            who=request.who,
            request_id=request.request_id,
            findings=findings,
            commands=commands,
        )
    )


def end_step(turn: Turn, plan_id: str, reason: str, *, done: bool) -> None:
    """Go on after the present step, or end the plan. A way back to safe goes on whatever happened."""
    plan = turn.state.plans.get(plan_id)
    if plan is None:
        return
    next_step = plan.step + 1
    if (done or plan.origin == "fallback") and next_step < len(plan.commands):
        _advance(turn, plan, next_step)
        return
    if done:
        turn.conclude(facts.PlanCompleted(at=turn.at, plan_id=plan_id))
    else:
        drop(turn, plan, reason)
    if plan.origin == "fallback":
        how = "the way back to safe is done" if done else f"the way back to safe failed: {reason}"
        escalate(turn, plan.incident_id, f"an effect stayed absent; {how}")


def drop(turn: Turn, plan: PlanProgress, reason: str) -> None:
    """End a plan at its present step. A command that was intended once and never seen gets its end too."""
    progress = turn.state.commands[plan.commands[plan.step]]
    if progress.attempt and progress.phase in ("awaiting_snapshot", "waiting"):
        turn.conclude(facts.CommandFailed(at=turn.at, command_id=progress.command.command_id, reason=reason))
    turn.conclude(facts.PlanDropped(at=turn.at, plan_id=plan.plan_id, reason=reason))


def _advance(turn: Turn, plan: PlanProgress, step: int) -> None:
    turn.conclude(facts.PlanAdvanced(at=turn.at, plan_id=plan.plan_id, step=step))
    acting.start_step(turn, turn.state.plans[plan.plan_id])


def on_effect_absent(turn: Turn, fact: facts.EffectAbsent, progress: CommandProgress) -> None:
    """Go back to the previous value where that is towards safe, then to the safe state, then to a person."""
    plan = turn.state.plans.get(progress.command.plan_id)
    if plan is None:
        return
    if plan.origin == "fallback":
        end_step(turn, plan.plan_id, f"effect absent: {fact.reason}", done=False)
        return
    turn.conclude(facts.PlanDropped(at=turn.at, plan_id=plan.plan_id, reason=f"effect absent: {fact.reason}"))
    plan_id = derive(plan.plan_id, "fallback")
    commands = [*_compensation(turn, progress, plan_id), *_hold(turn, progress, plan_id)]
    if not commands:
        escalate(turn, plan.incident_id, f"effect absent: {fact.reason}; there is no way back")
        return
    turn.conclude(
        facts.PlanProposed(
            at=turn.at,
            plan_id=plan_id,
            incident_id=plan.incident_id,
            origin="fallback",
            tier="reflex",
            who="agent",
            findings=(),
            commands=tuple(commands),
        )
    )
    acting.start_step(turn, turn.state.plans[plan_id])


def escalate(turn: Turn, incident_id: str, reason: str) -> None:
    """Say once per incident that a person must act."""
    incident = turn.state.incidents.get(incident_id)
    if incident is not None and incident.escalation:
        return
    turn.conclude(facts.IncidentEscalated(at=turn.at, incident_id=incident_id, reason=reason))


def asset_of(rules: Rulebook, action: Action | None) -> str:
    """Return the asset on which an action acts; empty for an unknown one."""
    robot = next((r for r in rules.cell.robots if action is not None and r.id == action.robot), None)
    return robot.asset if robot is not None else ""


def incident_on(state: CellState, asset: str) -> str:
    """Return the open incident of the process on an asset; empty: there is none."""
    return next((i.incident_id for i in state.incidents.values() if asset in i.assets and i.kind == "process"), "")


def _in_force(planned: PlannedAction, state: CellState, rules: Rulebook) -> bool:
    action = rules.catalogue.action(planned.name)
    if action is None or not action.args:
        return False
    return all(abs(state.known.get(a.tag, float("inf")) - planned.args[a.name]) <= a.tolerance for a in action.args)


def _commands(
    turn: Turn, plan_id: str, incident_id: str, planned: Sequence[PlannedAction], origin: CommandOrigin
) -> tuple[Command, ...]:
    """Copy the choices into commands. `from` is the present set-point, or what an earlier step will have made of it."""
    present = dict(turn.state.known)
    commands = []
    for number, choice in enumerate(planned):
        action = turn.rules.catalogue.action(choice.name)
        known = action.args if action is not None else ()
        before = {a.name: present[a.tag] for a in known if a.tag in present}
        commands.append(
            Command(
                command_id=derive(plan_id, "step", str(number)),
                plan_id=plan_id,
                incident_id=incident_id,
                robot=action.robot if action is not None else "",
                action=choice.name,
                verb=action.binding.verb if action is not None else "",
                args=_in_order(action, choice.args),
                from_values=before,
                origin=origin,
            )
        )
        present.update({a.tag: choice.args[a.name] for a in known if a.name in choice.args})
    return tuple(commands)


def _in_order(action: Action | None, args: Mapping[str, float]) -> dict[str, float]:
    """Copy in the catalogue's order; what it does not know comes last, for the guard to refuse."""
    names = [a.name for a in action.args if a.name in args] if action is not None else []
    return {name: args[name] for name in [*names, *(n for n in args if n not in names)]}


def _compensation(turn: Turn, progress: CommandProgress, plan_id: str) -> tuple[Command, ...]:
    command = progress.command
    action = turn.rules.catalogue.action(command.action)
    if action is None or action.compensation != "previous_value":
        return ()
    return (
        Command(
            command_id=derive(plan_id, "compensation"),
            plan_id=plan_id,
            incident_id=command.incident_id,
            robot=command.robot,
            action=command.action,
            verb=command.verb,
            args=command.from_values,
            from_values=command.args,
            origin="compensation",
        ),
    )


def _hold(turn: Turn, progress: CommandProgress, plan_id: str) -> tuple[Command, ...]:
    name = turn.rules.hold_action
    if not name or name == progress.command.action:
        return ()
    return _commands(turn, plan_id, progress.command.incident_id, [PlannedAction(name)], "fallback")
