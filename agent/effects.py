"""Wishes: what the state still wants from the outside. They are a function of the state.

`outstanding(state)` names every wish by a key. A step's effects are the keys that it added; after a restart all of them
are wished again, and a command that may have left is asked for (`QueryCommand`), never sent, because `agent.started/1`
moves it from *intended* to *querying* in the fold.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.cell import CellState
from agent.wakes import name_wake
from schemas.commands import Command
from schemas.plans import ReasonerRequest
from schemas.policy import Policy


@dataclass(frozen=True, slots=True)
class AskReasoner:
    """Put the question to the tier's reasoner."""

    request: ReasonerRequest


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Read what the guard needs, now."""

    subject_id: str
    action: str
    round: int


@dataclass(frozen=True, slots=True)
class ReadSetpoints:
    """Read every set-point of the cell, now: a sentence may name any of them."""

    subject_id: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send once."""

    command: Command
    sha256: str
    attempt: int


@dataclass(frozen=True, slots=True)
class QueryCommand:
    """Raise the fence, then ask the robot what became of it."""

    command: Command
    round: int


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Read the set-points until they are as asked, or the time is up."""

    command: Command


@dataclass(frozen=True, slots=True)
class Rebaseline:
    """Tell the detectors which tags a command or a person moved for good."""

    cause_id: str
    tags: tuple[str, ...]
    settle_s: float


@dataclass(frozen=True, slots=True)
class VerifyEffect:
    """Watch the rows that follow for the action's postcondition."""

    command_id: str
    action: str
    since_at: int


@dataclass(frozen=True, slots=True)
class Notify:
    """Reach a person."""

    notification_id: str
    title: str
    text: str
    urgent: bool


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Return as `time.reached/1` when agent time is `at`."""

    wake_id: str
    at: int


Effect = (
    AskReasoner
    | TakeSnapshot
    | ReadSetpoints
    | Dispatch
    | QueryCommand
    | ReadBack
    | Rebaseline
    | VerifyEffect
    | Notify
    | WakeAt
)


def outstanding(state: CellState, policy: Policy) -> dict[str, Effect]:
    """Return every wish that is still open, by its key."""
    wishes: dict[str, Effect] = {}
    for ask in state.asks.values():
        wishes[f"ask|{ask.request.request_id}"] = AskReasoner(ask.request)
        _wake(wishes, "deadline", ask.request.request_id, ask.deadline_at)
    for request in state.requests.values():
        if request.kind != "ask":
            wishes[f"snapshot|{request.request_id}|0"] = TakeSnapshot(request.request_id, request.target, 0)
        elif state.ask_of(request.request_id) is None:
            wishes[f"setpoints|{request.request_id}"] = ReadSetpoints(request.request_id)
    for request in state.rebaselines.values():
        tags = tuple(request.target.split(",")) if request.target else ()
        wishes[f"rebaseline|{request.request_id}"] = Rebaseline(request.request_id, tags, 0.0)
    for progress in state.commands.values():
        _command(wishes, state, progress.command.command_id, policy)
    for note in state.notifications.values():
        key = f"notify|{note.notification_id}|{note.attempts}"
        if note.due:
            wishes[key] = Notify(note.notification_id, note.title, note.text, note.urgent)
        else:
            _wake(wishes, "renotify", note.notification_id, note.again_at)
    for incident in state.incidents.values():
        if state.quiet(incident):
            _wake(wishes, "quiet", incident.incident_id, incident.quiet_since + int(policy.quiet_s * 1e6))
    return wishes


def _wake(wishes: dict[str, Effect], kind: str, subject: str, at: int) -> None:
    wake_id = name_wake(kind, subject, at)
    wishes[f"wake|{wake_id}"] = WakeAt(wake_id, at)


def _command(wishes: dict[str, Effect], state: CellState, command_id: str, policy: Policy) -> None:
    progress = state.commands[command_id]
    command, since = progress.command, progress.since_at
    match progress.phase:
        case "awaiting_approval":
            _wake(wishes, "decide_by", command_id, progress.decide_by_at)
        case "awaiting_snapshot":
            key = f"snapshot|{command_id}|{progress.round}"
            wishes[key] = TakeSnapshot(command_id, command.action, progress.round)
        case "waiting":
            _wake(wishes, "retry", command_id, since + int(policy.retry_s * 1e6))
        case "intended":
            wishes[f"dispatch|{command_id}|{progress.attempt}"] = Dispatch(command, progress.sha256, progress.attempt)
        case "querying":
            wishes[f"query|{command_id}|{progress.round}"] = QueryCommand(command, progress.round)
        case "query_pause":
            pause_s = min(policy.query_retry_s * 2.0 ** min(progress.round, 16), policy.query_retry_s_max)
            _wake(wishes, "query", command_id, since + int(pause_s * 1e6))
        case "reading_back":
            wishes[f"readback|{command_id}|{progress.round}"] = ReadBack(command)
        case "verifying":
            wishes[f"verify|{command_id}"] = VerifyEffect(command_id, command.action, since)
        case "proposed" | "ended" | "unresolved":
            pass
    if progress.moves:
        wishes[f"rebaseline|{command_id}"] = Rebaseline(command_id, progress.moves, progress.settle_s)
