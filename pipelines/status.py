"""What a person must know now, and what the next shift must know: views of the cell's state. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agent.cell import HISTORY_US, CellState
from agent.guard.question import Rulebook
from agent.incident import CommandProgress


@dataclass(frozen=True, slots=True)
class WaitingDecision:
    """A command that waits for a person."""

    command_id: str
    sha256: str
    title: str
    change: str
    """Old and new value with unit, e.g. `grip_force_n 15 -> 40 N`."""
    asset: str
    diagnosis: str
    incident_id: str
    approvals: str
    """`0 of 1`."""
    decide_by_at: int


@dataclass(frozen=True, slots=True)
class IncidentView:
    """One open incident."""

    incident_id: str
    kind: str
    assets: tuple[str, ...]
    opened_at: int
    stage: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellView:
    """One cell on a status screen."""

    cell: str
    at: int
    mode: str
    automation_on: bool
    source_alive: bool
    packml_state: str
    needs_you: tuple[WaitingDecision, ...]
    unresolved: tuple[str, ...]
    incidents: tuple[IncidentView, ...]
    sent_last_hour: int

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return asdict(self)


def view(state: CellState, rules: Rulebook, *, off_file: bool = False) -> CellView:
    """Return what a status screen shows of a cell. Any of the three off switches counts as off."""
    waiting = [c for c in state.commands.values() if c.phase == "awaiting_approval"]
    return CellView(
        cell=state.cell,
        at=state.at,
        mode=state.mode,
        automation_on=state.automation_on and not off_file and not _disabled_at_the_plant(state, rules),
        source_alive=state.source_alive,
        packml_state=state.packml_state,
        needs_you=tuple(_decision(c, state, rules) for c in waiting),
        unresolved=tuple(c.command.command_id for c in state.commands.values() if c.phase == "unresolved"),
        incidents=tuple(_incident(incident_id, state) for incident_id in state.incidents),
        sent_last_hour=sum(sent.at > state.at - HISTORY_US for sent in state.history),
    )


def _disabled_at_the_plant(state: CellState, rules: Rulebook) -> bool:
    """Whether the plant's own switch was off when it was last read."""
    return state.known.get(rules.cell.enable_tag, 1.0) != 1.0


def change_of(progress: CommandProgress, rules: Rulebook) -> str:
    """Return old and new value of every argument with its unit; the title for an action without any."""
    action = rules.catalogue.action(progress.command.action)
    if action is None or not action.args:
        return action.title if action is not None else progress.command.action
    parts = []
    for argument in action.args:
        before = progress.command.from_values.get(argument.name)
        shown = "?" if before is None else f"{before:g}"
        parts.append(
            f"{argument.name} {shown} -> {progress.command.args.get(argument.name, float('nan')):g} {argument.unit}"
        )
    return ", ".join(parts)


def _decision(progress: CommandProgress, state: CellState, rules: Rulebook) -> WaitingDecision:
    action = rules.catalogue.action(progress.command.action)
    plan = state.plans.get(progress.command.plan_id)
    robot = next((r for r in rules.cell.robots if r.id == progress.command.robot), None)
    return WaitingDecision(
        command_id=progress.command.command_id,
        sha256=progress.sha256,
        title=action.title if action is not None else progress.command.action,
        change=change_of(progress, rules),
        asset=robot.asset if robot is not None else "",
        diagnosis=plan.diagnosis if plan is not None else "",
        incident_id=progress.command.incident_id,
        approvals=f"{len(progress.approvers)} of {progress.approvals_needed}",
        decide_by_at=progress.decide_by_at,
    )


def _incident(incident_id: str, state: CellState) -> IncidentView:
    incident = state.incidents[incident_id]
    opened = [state.episodes[e].opened for e in incident.episodes if e in state.episodes]
    return IncidentView(
        incident_id=incident_id,
        kind=incident.kind,
        assets=incident.assets,
        opened_at=incident.opened_at,
        stage=_stage(incident_id, state),
        findings=tuple(o.detail for o in opened),
    )


def _stage(incident_id: str, state: CellState) -> str:
    """Say in a few words what is being done about it."""
    incident = state.incidents[incident_id]
    if incident.escalation:
        return f"needs a person: {incident.escalation}"
    commands = [state.commands[p.commands[p.step]] for p in state.plans_of(incident_id)]
    if commands:
        return ", ".join(f"{c.command.action} {c.phase.replace('_', ' ')}" for c in commands)
    if state.in_doubt(incident_id):
        return "in doubt: look at the machine, then jidoka resolve"
    if state.asks_of(incident_id):
        return "being thought about"
    return "quiet, closing soon" if not incident.open_episodes else "watched"
