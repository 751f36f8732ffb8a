"""Which incident and which command a wish belongs to, for whoever reads the process log. Pure."""

from __future__ import annotations

from agent.cell import CellState
from agent.effects import AskReasoner, Dispatch, Effect, Notify, QueryCommand, ReadBack, Rebaseline, TakeSnapshot


def subject_of(effect: Effect, state: CellState) -> dict[str, str]:
    """Return `incident_id` and `command_id` as far as there are any; a wake-up has none."""
    match effect:
        case AskReasoner():
            return {"incident_id": effect.request.incident_id}
        case Dispatch() | QueryCommand() | ReadBack():
            return _of_command(effect.command.command_id, state)
        case TakeSnapshot():
            return _of_command(effect.subject_id, state)
        case Rebaseline():
            return _of_command(effect.cause_id, state)
        case Notify():
            return _of_notice(effect.notification_id, state)
        case _:
            return {}


def _of_command(command_id: str, state: CellState) -> dict[str, str]:
    progress = state.commands.get(command_id)
    return {} if progress is None else {"incident_id": progress.command.incident_id, "command_id": command_id}


def _of_notice(notification_id: str, state: CellState) -> dict[str, str]:
    """Read a notice's name, as `agent.notices` makes it: kind, subject, and for some a time."""
    kind, _, rest = notification_id.partition(":")
    subject = rest.partition(":")[0]
    if kind == "anomaly":
        return {"incident_id": state.incident_of.get(subject, "")}
    if kind == "escalated":
        return {"incident_id": subject if subject in state.incidents else ""}
    return _of_command(subject, state)
