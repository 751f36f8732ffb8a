"""The closed union of facts: everything that the log can say.

Each fact is past tense, immutable and named by a string in the data (`anomaly.detected/1`). `at` is agent time in
microseconds since 1970 UTC, set at the edge. *External* facts came from outside (inputs, people, robots, models, the
clock); *derived* facts were concluded. Replay feeds the first and compares the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from schemas.anomalies import ClearReason, Severity
from schemas.commands import Command, Reading, Verdict
from schemas.errors import CodecError
from schemas.evidence import Evidence
from schemas.outcomes import Outcome
from schemas.plans import Completion, Finding, ReasonerRequest, Tier
from schemas.upcast import UPCASTS, Raw, upcast


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    """Base of all facts."""

    at: int
    """Agent time, microseconds since 1970 UTC."""


# ---------------------------------------------------------------- external: the agent itself


class AgentStarted(Fact, frozen=True, kw_only=True, tag="agent.started/1"):
    """A process took the cell."""

    version: str
    code_sha256: str
    mode: Literal["observe", "act"]
    epoch: int
    """The fence: robots refuse commands of a lower one."""


class CellTaken(Fact, frozen=True, kw_only=True, tag="cell.taken/1"):
    """The running process raised its own fence, so that nothing sent before can still be accepted."""

    epoch: int
    reason: str


class ConfigAdopted(Fact, frozen=True, kw_only=True, tag="config.adopted/1"):
    """A configuration file is in force. Its bytes are a blob."""

    name: str
    sha256: str
    who: str
    reason: str


class AutonomyRaised(Fact, frozen=True, kw_only=True, tag="autonomy.raised/1"):
    """Somebody answers for an action that runs without asking."""

    action: str
    who: str
    reason: str


class DetectorSnapshotted(Fact, frozen=True, kw_only=True, tag="detector.snapshotted/1"):
    """The detectors' state before input `position` is the blob `sha256`: replay can begin there."""

    position: int
    sha256: str


# ---------------------------------------------------------------- derived from the input by detectors


class CalibrationAdopted(Fact, frozen=True, kw_only=True, tag="calibration.adopted/1"):
    """A group of tags has a normal."""

    group: str
    rows: int
    sha256: str


class LineStateChanged(Fact, frozen=True, kw_only=True, tag="line.state_changed/1"):
    """The cell's PackML state."""

    state: str
    number: int


class SourceGap(Fact, frozen=True, kw_only=True, tag="source.gap/1"):
    """Samples that nobody can recover."""

    source: str
    tags: tuple[str, ...]
    """Empty: all tags of the cell."""
    from_at: int
    until_at: int
    reason: str


class SourceChanged(Fact, frozen=True, kw_only=True, tag="source.changed/1"):
    """A source was lost or came back."""

    source: str
    alive: bool


class AnomalyDetected(Fact, frozen=True, kw_only=True, tag="anomaly.detected/1"):
    """An episode opened."""

    episode_id: str
    detector: str
    tag: str
    asset: str
    direction: Literal["up", "down", "none"]
    severity: Severity
    onset_at: int
    """End of the first row of the excursion."""
    detail: str
    """For people, of our own making; never text of the plant."""
    evidence: Evidence


class AnomalyUpdated(Fact, frozen=True, kw_only=True, tag="anomaly.updated/1"):
    """An episode goes on; fresh evidence."""

    episode_id: str
    evidence: Evidence


class AnomalyCleared(Fact, frozen=True, kw_only=True, tag="anomaly.cleared/1"):
    """An episode ended."""

    episode_id: str
    reason: ClearReason


class TagsRebaselined(Fact, frozen=True, kw_only=True, tag="tags.rebaselined/1"):
    """The detectors were told that these tags moved for good."""

    cause_id: str
    """The command or the person's request that moved them."""
    tags: tuple[str, ...]


class EffectVerified(Fact, frozen=True, kw_only=True, tag="effect.verified/1"):
    """The process shows what the action promised."""

    command_id: str
    rows: int
    worst: float


class EffectAbsent(Fact, frozen=True, kw_only=True, tag="effect.absent/1"):
    """The process did not show it in time."""

    command_id: str
    reason: str


# ---------------------------------------------------------------- external: answers


class SourceSilent(Fact, frozen=True, kw_only=True, tag="source.silent/1"):
    """No input at all, not even a tick, for longer than the runner allows."""

    source: str
    silent_s: float


class ReasonerAnswered(Fact, frozen=True, kw_only=True, tag="reasoner.answered/1"):
    """A reasoner's raw answer, usable or not."""

    request_id: str
    completion: Completion


class ReasonerFailed(Fact, frozen=True, kw_only=True, tag="reasoner.failed/1"):
    """A reasoner gave no answer."""

    request_id: str
    reasoner: str
    reason: str


class SnapshotTaken(Fact, frozen=True, kw_only=True, tag="snapshot.taken/1"):
    """Fresh readings for one command, or for a request that will become one."""

    subject_id: str
    read_at: int
    """Agent time just before the read was sent: no reading is older than this."""
    readings: dict[str, Reading]
    """By tag name."""
    off_file: bool
    """Whether the off-switch file was there."""
    failure: str = ""
    """Why nothing could be read; empty if it could."""


class CommandAnswered(Fact, frozen=True, kw_only=True, tag="command.answered/1"):
    """What came back for a command, to a send or to a query."""

    command_id: str
    by: Literal["send", "query"]
    outcome: Outcome


class ReadbackTaken(Fact, frozen=True, kw_only=True, tag="readback.taken/1"):
    """The set-points after a command, read until they matched or the time was up."""

    command_id: str
    readings: dict[str, Reading]
    failure: str = ""


class OperatorRequested(Fact, frozen=True, kw_only=True, tag="operator.requested/1"):
    """A person asked for something. Idempotent by `request_id`."""

    request_id: str
    who: str
    kind: Literal["approve", "deny", "request", "hold", "off", "on", "resolve", "rebaseline", "note", "ask"]
    target: str = ""
    """approve, deny, resolve: a command id; request: an action; rebaseline: tags, comma between, empty for all; note:
    anything; ask: the language, empty for English."""
    command_sha256: str = ""
    """approve: the hash of what the person saw."""
    args: dict[str, float] = {}
    reason: str = ""
    """Why; note, ask: the text."""


class TimeReached(Fact, frozen=True, kw_only=True, tag="time.reached/1"):
    """A wake-up came."""

    wake_id: str


class NotificationSent(Fact, frozen=True, kw_only=True, tag="notification.sent/1"):
    """A notifier was told, or could not be."""

    notification_id: str
    notifier: str
    delivered: bool
    detail: str = ""


# ---------------------------------------------------------------- derived by step


class IncidentOpened(Fact, frozen=True, kw_only=True, tag="incident.opened/1"):
    """An episode found no incident to join."""

    incident_id: str
    episode_id: str
    kind: Literal["process", "data_quality"]
    asset: str


class IncidentJoined(Fact, frozen=True, kw_only=True, tag="incident.joined/1"):
    """An episode belongs to an open incident."""

    incident_id: str
    episode_id: str


class IncidentEscalated(Fact, frozen=True, kw_only=True, tag="incident.escalated/1"):
    """The agent is at its end; a person must act."""

    incident_id: str
    reason: str


class IncidentClosed(Fact, frozen=True, kw_only=True, tag="incident.closed/1"):
    """All episodes cleared and it stayed quiet."""

    incident_id: str
    outcome: Literal["effective", "cleared", "escalated"]


class ReasonerAsked(Fact, frozen=True, kw_only=True, tag="reasoner.asked/1"):
    """A question was put."""

    request: ReasonerRequest


class AnswerDropped(Fact, frozen=True, kw_only=True, tag="answer.dropped/1"):
    """An answer that nobody waits for any more."""

    request_id: str
    reason: str


class PlanUnusable(Fact, frozen=True, kw_only=True, tag="plan.unusable/1"):
    """The answer is not a plan."""

    request_id: str
    incident_id: str
    rule: str
    reason: str


class PlanProposed(Fact, frozen=True, kw_only=True, tag="plan.proposed/1"):
    """A usable plan, as commands."""

    plan_id: str
    incident_id: str
    origin: Literal["reasoner", "operator", "fallback"]
    tier: Tier
    who: str
    """Reasoner or person."""
    request_id: str = ""
    """The person's request that it follows from; empty for a reasoner's plan."""
    findings: tuple[Finding, ...]
    commands: tuple[Command, ...]


class PlanDropped(Fact, frozen=True, kw_only=True, tag="plan.dropped/1"):
    """A plan ended without its remaining steps."""

    plan_id: str
    reason: str


class PlanAdvanced(Fact, frozen=True, kw_only=True, tag="plan.advanced/1"):
    """The next step of a plan has its turn."""

    plan_id: str
    step: int


class PlanCompleted(Fact, frozen=True, kw_only=True, tag="plan.completed/1"):
    """All steps were done, and effective where that was promised."""

    plan_id: str


class GuardJudged(Fact, frozen=True, kw_only=True, tag="guard.judged/1"):
    """Every rule's verdict on one command."""

    command_id: str
    command_sha256: str
    stage: Literal["proposal", "dispatch"]
    decision: Literal["permitted", "needs_approval", "refused"]
    approvals: int
    risk_class: str
    retry: bool
    """Refused only for reasons that pass by themselves: it will be judged again."""
    verdicts: tuple[Verdict, ...]


class ApprovalRequested(Fact, frozen=True, kw_only=True, tag="approval.requested/1"):
    """A person must decide."""

    command_id: str
    command_sha256: str
    approvals: int
    decide_by_at: int


class ApprovalGranted(Fact, frozen=True, kw_only=True, tag="approval.granted/1"):
    """One approver, one command hash."""

    command_id: str
    command_sha256: str
    who: str


class RequestRefused(Fact, frozen=True, kw_only=True, tag="request.refused/1"):
    """A person's request was not followed, and why."""

    request_id: str
    rule: str
    reason: str


class CommandIntended(Fact, frozen=True, kw_only=True, tag="command.intended/1"):
    """Durable before the first byte leaves."""

    command: Command
    command_sha256: str
    attempt: int


class CommandCompleted(Fact, frozen=True, kw_only=True, tag="command.completed/1"):
    """Done by the robot's word and by read-back. Not yet effective."""

    command_id: str
    moves: tuple[str, ...]
    """Tags that it moved for good."""
    settle_s: float
    verify: bool
    """Whether the process has yet to show its effect."""


class CommandFailed(Fact, frozen=True, kw_only=True, tag="command.failed/1"):
    """It certainly was not done, or not as asked."""

    command_id: str
    reason: str


class CommandUnresolved(Fact, frozen=True, kw_only=True, tag="command.unresolved/1"):
    """Nobody can tell whether it was done: the robot takes no more commands until a person resolves it."""

    command_id: str
    reason: str


class AutomationSwitched(Fact, frozen=True, kw_only=True, tag="automation.switched/1"):
    """The off switch."""

    on: bool
    who: str
    reason: str


External = (
    AgentStarted | CellTaken | ConfigAdopted | AutonomyRaised | DetectorSnapshotted | SourceSilent | ReasonerAnswered
    | ReasonerFailed | SnapshotTaken | CommandAnswered | ReadbackTaken | OperatorRequested | TimeReached
    | NotificationSent
)  # fmt: skip
Detected = (
    CalibrationAdopted | LineStateChanged | SourceGap | SourceChanged | AnomalyDetected | AnomalyUpdated
    | AnomalyCleared | TagsRebaselined | EffectVerified | EffectAbsent
)  # fmt: skip
Concluded = (
    IncidentOpened | IncidentJoined | IncidentEscalated | IncidentClosed | ReasonerAsked | AnswerDropped
    | PlanUnusable | PlanProposed | PlanDropped | PlanAdvanced | PlanCompleted | GuardJudged | ApprovalRequested
    | ApprovalGranted | RequestRefused | CommandIntended | CommandCompleted | CommandFailed | CommandUnresolved
    | AutomationSwitched
)  # fmt: skip
AnyFact = External | Detected | Concluded
"""External came from outside; Detected follows from the kept input; Concluded follows from `agent.step`."""

DERIVED_NAMES = frozenset(str(t.__struct_config__.tag) for t in (*Detected.__args__, *Concluded.__args__))
"""Names of the facts that replay must come to by itself."""

_DECODER = msgspec.json.Decoder(AnyFact)
_ENCODER = msgspec.json.Encoder(order="deterministic")


def type_name(fact: AnyFact) -> str:
    """Return the fact's name in the data, e.g. `anomaly.detected/1`."""
    return str(fact.__struct_config__.tag)


def encode(fact: AnyFact) -> bytes:
    """Return the bytes that are stored and hashed. Equal facts give equal bytes."""
    return _ENCODER.encode(fact)


def decode(data: bytes, steps: Mapping[str, Callable[[Raw], Raw]] = UPCASTS) -> AnyFact:
    """Read stored bytes, of today's version or of one that `steps` lead on from.

    Raises:
        CodecError: not JSON, an unknown type, or a field that is missing, unknown or of the wrong type.
    """
    try:
        fact: AnyFact = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        older = _older(data, steps)
        if older is None:
            raise CodecError(f"not a fact: {error}") from error
        return older
    return fact


def _older(data: bytes, steps: Mapping[str, Callable[[Raw], Raw]]) -> AnyFact | None:
    """Read a fact of an earlier version; None: it is not one."""
    try:
        raw = msgspec.json.decode(data)
        if not isinstance(raw, dict) or raw.get("type") not in steps:
            return None
        fact: AnyFact = msgspec.convert(upcast(raw, steps), AnyFact)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return None
    return fact
