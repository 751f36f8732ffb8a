"""The log for people: one line a fact, one story an incident."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import assert_never

from agent.asking.following import INTERPRETATION
from agent.wakes import read_wake
from schemas import facts
from schemas.commands import Command
from schemas.facts import AnyFact
from schemas.outcomes import Answered, NotSent, Unknown
from schemas.plans import Completion
from schemas.records import Recorded
from schemas.sentences import interpretation_of


def clock_text(at_us: int) -> str:
    """Return a time of day with its date, UTC, to the millisecond.

    >>> clock_text(1_700_000_000_123_456)
    '2023-11-14 22:13:20.123'
    """
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def line(record: Recorded) -> str:
    """Return one line: position, agent time, type, what it says."""
    fact = record.fact
    return f"{record.position:>7}  {clock_text(fact.at)}  {record.type.rsplit('/', 1)[0]:<22} {summary(fact)}"


def story(records: Iterable[Recorded]) -> str:
    """Return the lines of several records."""
    return "\n".join(line(record) for record in records)


def summary(fact: AnyFact) -> str:
    """Say in one line what a fact says."""
    match fact:
        case facts.AgentStarted():
            return f"{fact.version} in mode {fact.mode}, epoch {fact.epoch}"
        case facts.CellTaken():
            return f"epoch {fact.epoch}: {fact.reason}"
        case facts.ConfigAdopted():
            return f"{fact.name} {fact.sha256[:12]} by {fact.who}: {fact.reason}"
        case facts.AutonomyRaised():
            return f"{fact.action} is auto by {fact.who}: {fact.reason}"
        case facts.DetectorSnapshotted():
            return f"before input {fact.position + 1}, blob {fact.sha256[:12]}"
        case facts.CalibrationAdopted():
            return f"group {fact.group}: normal learnt from {fact.rows} rows"
        case facts.LineStateChanged():
            return fact.state
        case facts.SourceGap():
            seconds = (fact.until_at - fact.from_at) / 1e6
            return f"{', '.join(fact.tags) or 'all tags'}: {seconds:.1f} s lost: {fact.reason}"
        case facts.SourceChanged():
            source = "all input" if fact.source == "watch" else fact.source
            return f"{source} {'is back' if fact.alive else 'is lost'}"
        case facts.SourceSilent():
            return f"{fact.source} said nothing for {fact.silent_s:.0f} s"
        case facts.AnomalyDetected():
            return f"{fact.episode_id[:8]} {fact.severity}: {fact.detail}"
        case facts.AnomalyUpdated():
            return f"{fact.episode_id[:8]} goes on"
        case facts.AnomalyCleared():
            return f"{fact.episode_id[:8]} {fact.reason}"
        case facts.TagsRebaselined():
            return f"{', '.join(fact.tags)} by {fact.cause_id[:8]}"
        case facts.EffectVerified():
            return f"{fact.command_id[:8]} shown by {fact.rows} rows, worst {fact.worst:g}"
        case facts.EffectAbsent():
            return f"{fact.command_id[:8]} {fact.reason}"
        case facts.OperatorRequested():
            wanted = " ".join([fact.target[:36], *(f"{k}={v:g}" for k, v in fact.args.items())])
            return f"{fact.who}: {fact.kind} {wanted} {_shown(fact.reason)}".rstrip()
        case facts.TimeReached():
            wake = read_wake(fact.wake_id)
            return f"{wake.kind} of {wake.subject[:8]}" if wake is not None else fact.wake_id
        case facts.NotificationSent():
            return f"{fact.notifier}: {'delivered' if fact.delivered else 'FAILED: ' + fact.detail}"
        case _:
            return _decision(fact)


def _decision(fact: AnyFact) -> str:
    match fact:
        case facts.ReasonerAsked():
            signs = ", ".join(f"{s.tag} {s.detector} {s.direction}" for s in fact.request.slots)
            return f"{fact.request.tier} for {fact.request.incident_id[:8]}: {signs}"
        case facts.ReasonerAnswered():
            return _answer(fact.completion)
        case facts.ReasonerFailed():
            return f"{fact.reasoner}: {fact.reason}"
        case facts.AnswerDropped():
            return fact.reason
        case facts.IncidentOpened():
            return f"{fact.incident_id[:8]} {fact.kind} on {fact.asset}"
        case facts.IncidentJoined():
            return f"{fact.incident_id[:8]} by episode {fact.episode_id[:8]}"
        case facts.IncidentEscalated():
            return f"{fact.incident_id[:8]} {fact.reason}"
        case facts.IncidentClosed():
            return f"{fact.incident_id[:8]} {fact.outcome}"
        case facts.PlanUnusable():
            return f"{fact.rule}: {fact.reason}"
        case facts.PlanProposed():
            said = "; ".join(f.diagnosis for f in fact.findings) or fact.origin
            wanted = ", ".join(map(_said, fact.commands)) or "no action"
            return f"{fact.plan_id[:8]} by {fact.who}: {said} -> {wanted}"
        case facts.PlanAdvanced():
            return f"{fact.plan_id[:8]} step {fact.step + 1}"
        case facts.PlanDropped():
            return f"{fact.plan_id[:8]} {fact.reason}"
        case facts.PlanCompleted():
            return fact.plan_id[:8]
        case facts.RequestRefused():
            return f"{fact.rule}: {fact.reason}"
        case facts.AutomationSwitched():
            return f"{'on' if fact.on else 'OFF'} by {fact.who} {fact.reason}".rstrip()
        case _:
            return _command(fact)


def _command(fact: AnyFact) -> str:
    match fact:
        case facts.GuardJudged():
            against = [f"{v.rule}: {v.reason}" for v in fact.verdicts if v.result == "refused"]
            verdict = "; ".join(against) or _counted(fact)
            return f"{fact.command_id[:8]} {fact.stage}: {fact.decision} (class {fact.risk_class}): {verdict}"
        case facts.ApprovalRequested():
            return f"{fact.command_id[:8]} needs {fact.approvals} by {clock_text(fact.decide_by_at)}"
        case facts.ApprovalGranted():
            return f"{fact.command_id[:8]} by {fact.who}"
        case facts.SnapshotTaken():
            return f"for {fact.subject_id[:8]}: {fact.failure or f'{len(fact.readings)} tags'}"
        case facts.CommandIntended():
            return f"{fact.command.command_id[:8]} {_said(fact.command)}, attempt {fact.attempt}"
        case facts.CommandAnswered():
            return f"{fact.command_id[:8]} {fact.by}: {_outcome(fact)}"
        case facts.ReadbackTaken():
            shown = ", ".join(f"{tag} {r.value}" for tag, r in fact.readings.items())
            return f"{fact.command_id[:8]} {fact.failure or shown or 'nothing to read'}"
        case facts.CommandCompleted():
            return f"{fact.command_id[:8]} done and read back"
        case facts.CommandFailed():
            return f"{fact.command_id[:8]} {fact.reason}"
        case facts.CommandUnresolved():
            return f"{fact.command_id[:8]} {fact.reason}"
        case _:
            return ""


def _answer(completion: Completion) -> str:
    """Say who answered what, how sure, and who was asked in vain before."""
    sure = f" ({completion.confidence:.2f} sure)" if completion.confidence is not None else ""
    vain = "".join(f"; {attempt.reasoner} was asked before: {attempt.reason}" for attempt in completion.tried)
    return f"{completion.reasoner}{sure}: {completion.raw[:100]}{_missed(completion)}{vain}"


def _missed(completion: Completion) -> str:
    """Say what of a sentence the phrasebook did not understand, where it was the one that answered."""
    found = interpretation_of(completion.model.get(INTERPRETATION, ""))
    by_model = bool(completion.tried) and completion.tried[0].reasoner == "phrasebook"
    if found is None or not found.not_understood or by_model:
        return ""
    return "; not understood: " + ", ".join(f"{part.words!r}" for part in found.not_understood)


def _shown(text: str) -> str:
    """Return a person's text with a sign in place of what would steer a terminal or is not shown."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _counted(fact: facts.GuardJudged) -> str:
    passed = sum(v.result == "passed" for v in fact.verdicts)
    rest = len(fact.verdicts) - passed
    return f"{passed} rules passed" + (f", {rest} judged before sending" if rest else "")


def _outcome(fact: facts.CommandAnswered) -> str:
    match fact.outcome:
        case Answered():
            return f"{fact.outcome.state} {fact.outcome.detail}".rstrip()
        case Unknown():
            return f"unknown: {fact.outcome.reason}"
        case NotSent():
            return f"not sent: {fact.outcome.reason}"
    assert_never(fact.outcome)


def _said(command: Command) -> str:
    values = ", ".join(f"{_value(command.from_values.get(k))} -> {v:g}" for k, v in command.args.items())
    return f"{command.action} {values}".rstrip()


def _value(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"
