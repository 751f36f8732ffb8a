"""The one place with the agent's control flow: a fact comes in; conclusions and wishes go out.

Pure: no clock, socket, file, random or model call. The order of events is the log's.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent import acting, operating, planning
from agent.asking import following
from agent.cell import CellState, apply
from agent.effects import Effect, outstanding
from agent.guard.question import Rulebook
from agent.identity import derive
from agent.incident import DATA_QUALITY_DETECTORS, CommandProgress, Incident
from agent.reasoning.parse import parse_plan
from agent.reasoning.request import question_of
from agent.turn import Turn
from agent.wakes import read_wake
from schemas import facts
from schemas.facts import AnyFact
from schemas.plans import Tier, Unusable


@dataclass(frozen=True, slots=True)
class Stepped:
    """The state after a fact and its conclusions, the conclusions, and the wishes that are new."""

    state: CellState
    facts: tuple[AnyFact, ...]
    effects: tuple[Effect, ...]


def step(state: CellState, fact: AnyFact, rules: Rulebook) -> Stepped:
    """Decide what follows from one fact from outside or from the detectors."""
    before = outstanding(state, rules.policy)
    turn = Turn(apply(state, fact), rules, fact.at)
    _react(turn, fact, state)
    for incident_id in tuple(turn.state.incidents):
        _ask(turn, incident_id)
    after = outstanding(turn.state, rules.policy)
    effects = tuple(effect for key, effect in after.items() if key not in before)
    return Stepped(turn.state, tuple(turn.facts), effects)


def _react(turn: Turn, fact: AnyFact, before: CellState) -> None:
    match fact:
        case facts.AgentStarted(mode="observe"):
            operating.drop_all(turn, "mode is observe: nothing is sent")
            acting.ask_no_more(turn, "mode is observe: nobody asks the robot")
        case facts.AnomalyDetected():
            if fact.episode_id not in before.incident_of:
                _place(turn, fact)
        case facts.AnomalyUpdated():
            _again(turn, fact, before.incident_of.get(fact.episode_id, ""))
        case facts.AnomalyCleared():
            _cleared(turn, before.incident_of.get(fact.episode_id, ""))
        case facts.ReasonerAnswered():
            _answered(turn, fact, before)
        case facts.ReasonerFailed():
            ask = before.asks.get(fact.request_id)
            if ask is not None:
                _unusable(turn, fact.request_id, Unusable("reasoner.failed", f"{fact.reasoner}: {fact.reason}"), before)
        case facts.SnapshotTaken():
            _snapshot(turn, fact, before)
        case facts.CommandAnswered():
            if (progress := before.commands.get(fact.command_id)) is not None:
                acting.on_answer(turn, fact, progress)
        case facts.ReadbackTaken():
            if (progress := before.commands.get(fact.command_id)) is not None:
                acting.on_readback(turn, fact, progress)
        case facts.EffectVerified():
            if (progress := _verifying(before, fact.command_id)) is not None:
                planning.end_step(turn, progress.command.plan_id, "", done=True)
        case facts.EffectAbsent():
            if (progress := _verifying(before, fact.command_id)) is not None:
                planning.on_effect_absent(turn, fact, progress)
        case facts.OperatorRequested():
            if fact.request_id not in before.seen_requests:
                operating.on_request(turn, fact)
        case facts.TimeReached():
            _woken(turn, fact, before)
        case _:
            pass  # the fold has taken it; nothing follows


def _verifying(state: CellState, command_id: str) -> CommandProgress | None:
    progress = state.commands.get(command_id)
    return progress if progress is not None and progress.phase == "verifying" else None


def _place(turn: Turn, fact: facts.AnomalyDetected) -> None:
    """Join the open incident of its kind that shares the asset or began within `join_s`; else open one."""
    kind = "data_quality" if fact.detector in DATA_QUALITY_DETECTORS else "process"
    near_us = turn.rules.policy.join_s * 1e6
    for incident in turn.state.incidents.values():
        near = abs(fact.onset_at - incident.onset_at) <= near_us
        if incident.kind == kind and (fact.asset in incident.assets or near):
            turn.conclude(
                facts.IncidentJoined(at=turn.at, incident_id=incident.incident_id, episode_id=fact.episode_id)
            )
            return
    turn.conclude(
        facts.IncidentOpened(
            at=turn.at,
            incident_id=derive(turn.state.cell, "incident", fact.episode_id),
            episode_id=fact.episode_id,
            kind="data_quality" if kind == "data_quality" else "process",
            asset=fact.asset,
        )
    )


def _ask(turn: Turn, incident_id: str) -> None:
    """Ask what has not been asked: the reflex at once, the proposal when the reflex no longer needs the robot."""
    incident = turn.state.incidents[incident_id]
    if incident.kind != "process" or not incident.open_episodes or not turn.state.automation_on:
        return
    if turn.state.asks_of(incident_id):
        return
    assets = frozenset(incident.assets)
    tier: Tier | None = None
    if not assets <= incident.asked["reflex"]:
        tier = "reflex"
    elif (
        not incident.escalation
        and not assets <= incident.asked["proposal"]
        and not turn.state.in_doubt(incident_id)
        and not _reflex_at_work(turn.state, incident)
    ):
        tier = "proposal"
    if tier is not None:
        _put(turn, incident, tier)


def _put(turn: Turn, incident: Incident, tier: Tier) -> None:
    if tier == "proposal" and incident.proposals >= turn.rules.policy.plans_per_incident:
        planning.escalate(turn, incident.incident_id, f"{incident.proposals} plans did not mend it")
        return
    request = question_of(turn.state, incident, tier, turn.rules.policy)
    turn.conclude(facts.ReasonerAsked(at=turn.at, request=request))


def _reflex_at_work(state: CellState, incident: Incident) -> bool:
    """Whether a reflex or a way back is about to use a robot; one that waits for a person is not."""
    return any(
        plan.tier == "reflex"
        and (
            plan.origin == "fallback"
            or state.commands[plan.commands[-1]].phase not in ("verifying", "awaiting_approval")
        )
        for plan in state.plans_of(incident.incident_id)
    )


def _again(turn: Turn, fact: facts.AnomalyUpdated, incident_id: str) -> None:
    """An episode goes on and nobody is at it: ask once more, with fresh evidence. A command in doubt is a person's.

    Where an effect was shown and the tag stands at normal, the detector is about to see it: then nobody is asked.
    """
    incident = turn.state.incidents.get(incident_id)
    if incident is None or incident.kind != "process" or incident.escalation or turn.state.in_doubt(incident_id):
        return
    if not incident.open_episodes or not turn.state.automation_on:
        return
    if turn.state.plans_of(incident_id) or turn.state.asks_of(incident_id):
        return
    if incident.effective and _stands_at_normal(turn.state, fact):
        return
    _put(turn, incident, "proposal")


def _stands_at_normal(state: CellState, fact: facts.AnomalyUpdated) -> bool:
    episode = state.episodes.get(fact.episode_id)
    if episode is None:  # Over meanwhile; its incident still knows it.
        return False
    return any(tag.tag == episode.opened.tag and tag.bucket == "normal" for tag in fact.evidence.tags)


def _cleared(turn: Turn, incident_id: str) -> None:
    """A reasoner's plan that still waits is pointless once all episodes cleared; a person's and a way back are not."""
    incident = turn.state.incidents.get(incident_id)
    if incident is None or incident.open_episodes:
        return
    for plan in turn.state.plans_of(incident_id):
        waits = turn.state.commands[plan.commands[plan.step]].phase in ("awaiting_approval", "waiting")
        if plan.origin == "reasoner" and waits:
            planning.end_step(turn, plan.plan_id, "all episodes of the incident cleared", done=False)


def _answered(turn: Turn, fact: facts.ReasonerAnswered, before: CellState) -> None:
    ask = before.asks.get(fact.request_id)
    if ask is None:
        turn.conclude(
            facts.AnswerDropped(at=turn.at, request_id=fact.request_id, reason="nobody waits for it any more")
        )
        return
    if ask.request.sentence is not None:
        following.on_answer(turn, fact.completion, ask.request, before)
        return
    incident = turn.state.incidents.get(ask.request.incident_id)
    if incident is None or not incident.open_episodes:
        reason = "all episodes of the incident cleared"
        turn.conclude(facts.AnswerDropped(at=turn.at, request_id=fact.request_id, reason=reason))
        return
    parsed = parse_plan(fact.completion.raw, ask.request, turn.rules)
    if isinstance(parsed, Unusable):
        _unusable(turn, fact.request_id, parsed, before)
    else:
        planning.propose(turn, ask.request, parsed, fact.completion.reasoner)


def _unusable(turn: Turn, request_id: str, why: Unusable, before: CellState) -> None:
    asked = before.asks[request_id].request
    if asked.sentence is not None:
        following.refuse(turn, asked.sentence.request_id, why)
        return
    incident_id = asked.incident_id
    turn.conclude(
        facts.PlanUnusable(at=turn.at, request_id=request_id, incident_id=incident_id, rule=why.rule, reason=why.reason)
    )


def _snapshot(turn: Turn, fact: facts.SnapshotTaken, before: CellState) -> None:
    if (request := before.requests.get(fact.subject_id)) is not None:
        operating.on_snapshot(turn, fact, request)
    elif (progress := before.commands.get(fact.subject_id)) is not None:
        acting.on_snapshot(turn, fact, progress)


def _woken(turn: Turn, fact: facts.TimeReached, before: CellState) -> None:
    wake = read_wake(fact.wake_id)
    if wake is None:
        return
    match wake.kind:
        case "deadline" if wake.subject in before.asks:
            ask = before.asks[wake.subject]
            waited = Unusable("reasoner.deadline", f"no answer within {ask.request.deadline_s:g} s")
            _unusable(turn, wake.subject, waited, before)
        case "decide_by":
            progress = turn.state.commands.get(wake.subject)
            if progress is not None and progress.phase == "awaiting_approval":
                planning.end_step(turn, progress.command.plan_id, "nobody decided in time", done=False)
        case "quiet":
            incident = turn.state.incidents.get(wake.subject)
            if incident is not None and _quiet_by(turn, incident, wake.at):
                _close(turn, incident)
        case _:
            pass  # retry and query: the fold has moved the command on


def _quiet_by(turn: Turn, incident: Incident, armed_for: int) -> bool:
    """Whether nothing is open, and the wake-up was armed for the present quiet and not for an earlier one."""
    if not turn.state.quiet(incident):
        return False
    return armed_for >= incident.quiet_since + int(turn.rules.policy.quiet_s * 1e6)


def _close(turn: Turn, incident: Incident) -> None:
    outcome = "escalated" if incident.escalation else "effective" if incident.effective else "cleared"
    turn.conclude(
        facts.IncidentClosed(
            at=turn.at,
            incident_id=incident.incident_id,
            outcome="escalated" if outcome == "escalated" else "effective" if outcome == "effective" else "cleared",
        )
    )
