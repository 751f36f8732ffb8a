"""The cell's state as a fold over its facts. `apply` is total; replaying the log gives the same state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, assert_never

from agent.incident import Ask, CommandProgress, Episode, Incident, PlanProgress, Sent
from agent.notices import NOTIFY_ATTEMPTS_MAX, Notice, notice_of
from agent.progress import CommandFact, moved, subject
from agent.wakes import read_wake
from schemas import facts
from schemas.facts import AnyFact, OperatorRequested

EPISODES_REMEMBERED = 4096
"""Closed episodes whose incident is remembered, so that a late duplicate opens nothing."""
REQUESTS_REMEMBERED = 1024
V = TypeVar("V")
HISTORY_US = 3_600_000_000
"""How far back budgets look."""


def _empty() -> dict:  # type: ignore[type-arg]  # each field states its own types
    return {}


@dataclass(frozen=True, slots=True)
class CellState:
    """Everything that decisions depend on."""

    cell: str
    at: int = 0
    mode: Literal["observe", "act"] = "observe"
    epoch: int = 0
    automation_on: bool = True
    source_alive: bool = True
    packml_state: str = "UNDEFINED"
    known: Mapping[str, float] = field(default_factory=_empty)
    """Latest known value by tag: set-points of evidence, everything of snapshots and read-backs."""
    known_at: Mapping[str, int] = field(default_factory=_empty)
    """When each was so. Rows close late: evidence may be older than what was read back since."""
    episodes: Mapping[str, Episode] = field(default_factory=_empty)
    """Open ones."""
    incident_of: Mapping[str, str] = field(default_factory=_empty)
    """Episode -> incident, also of closed ones."""
    incidents: Mapping[str, Incident] = field(default_factory=_empty)
    """Open ones."""
    asks: Mapping[str, Ask] = field(default_factory=_empty)
    plans: Mapping[str, PlanProgress] = field(default_factory=_empty)
    """In work."""
    commands: Mapping[str, CommandProgress] = field(default_factory=_empty)
    """Of the plans in work, and those that something is still owed to."""
    requests: Mapping[str, OperatorRequested] = field(default_factory=_empty)
    """Requests for an action that wait for a snapshot, and sentences until they became a plan or were refused."""
    rebaselines: Mapping[str, OperatorRequested] = field(default_factory=_empty)
    """Requests of which the detectors have not heard yet."""
    seen_requests: tuple[str, ...] = ()
    notifications: Mapping[str, Notice] = field(default_factory=_empty)
    history: tuple[Sent, ...] = ()

    def plans_of(self, incident_id: str) -> list[PlanProgress]:
        """Return the incident's plans in work, oldest first."""
        return [plan for plan in self.plans.values() if plan.incident_id == incident_id]

    def asks_of(self, incident_id: str) -> list[Ask]:
        """Return the questions that wait on behalf of the incident."""
        return [ask for ask in self.asks.values() if ask.request.incident_id == incident_id]

    def ask_of(self, request_id: str) -> Ask | None:
        """Return the question that waits on behalf of a person's sentence."""
        for ask in self.asks.values():
            if ask.request.sentence is not None and ask.request.sentence.request_id == request_id:
                return ask
        return None

    def quiet(self, incident: Incident) -> bool:
        """Whether nothing of the incident is open: no episode, no plan, no command in doubt."""
        incident_id = incident.incident_id
        return not (incident.open_episodes or self.plans_of(incident_id) or self.in_doubt(incident_id))

    def in_doubt(self, incident_id: str) -> bool:
        """Whether nobody can tell of one of the incident's commands whether it was done."""
        return any(c.phase == "unresolved" and c.command.incident_id == incident_id for c in self.commands.values())


def apply(state: CellState, fact: AnyFact) -> CellState:
    """Return the state after `fact`. Facts about what is no longer there change nothing."""
    state = replace(state, at=max(state.at, fact.at))
    notice = notice_of(fact)
    if notice is not None and not (isinstance(fact, facts.AnomalyDetected) and fact.episode_id in state.incident_of):
        state = replace(state, notifications={**state.notifications, notice.notification_id: notice})
    match fact:
        case facts.AgentStarted():
            return _restarted(replace(state, mode=fact.mode, epoch=fact.epoch), fact.at)
        case facts.CellTaken():
            return replace(state, epoch=fact.epoch)
        case facts.ConfigAdopted() | facts.AutonomyRaised() | facts.DetectorSnapshotted() | facts.CalibrationAdopted():
            return state
        case facts.AutomationSwitched():
            return replace(state, automation_on=fact.on)
        case facts.LineStateChanged():
            return replace(state, packml_state=fact.state)
        case facts.SourceChanged():
            return replace(state, source_alive=fact.alive)
        case facts.SourceSilent():
            return replace(state, source_alive=False)
        case facts.SourceGap():
            return state
        case facts.NotificationSent():
            return _notified(state, fact)
        case facts.AnomalyDetected() | facts.AnomalyUpdated() | facts.AnomalyCleared():
            return _episode(state, fact)
        case facts.IncidentOpened() | facts.IncidentJoined() | facts.IncidentEscalated() | facts.IncidentClosed():
            return _incident(state, fact)
        case (
            facts.ReasonerAsked()
            | facts.ReasonerAnswered()
            | facts.ReasonerFailed()
            | facts.AnswerDropped()
            | facts.PlanUnusable()
        ):
            return _answer(state, fact)
        case facts.PlanProposed() | facts.PlanDropped() | facts.PlanAdvanced() | facts.PlanCompleted():
            return _plan(state, fact)
        case facts.OperatorRequested() | facts.RequestRefused():
            return _request(state, fact)
        case facts.TimeReached():
            return _woken(state, fact)
        case (
            facts.GuardJudged()
            | facts.ApprovalRequested()
            | facts.ApprovalGranted()
            | facts.SnapshotTaken()
            | facts.CommandIntended()
            | facts.CommandAnswered()
            | facts.ReadbackTaken()
            | facts.CommandCompleted()
            | facts.CommandFailed()
            | facts.CommandUnresolved()
            | facts.TagsRebaselined()
            | facts.EffectVerified()
            | facts.EffectAbsent()
        ):
            return _command(state, fact)
    assert_never(fact)


def _without(values: Mapping[str, V], key: str) -> Mapping[str, V]:
    return {k: v for k, v in values.items() if k != key}


def _knowing(state: CellState, values: Mapping[str, float], at: int) -> CellState:
    """Return the state with what was so at `at`; what is known of a later time stays."""
    newer = {tag: value for tag, value in values.items() if at >= state.known_at.get(tag, 0)}
    return replace(state, known={**state.known, **newer}, known_at={**state.known_at, **dict.fromkeys(newer, at)})


def _restarted(state: CellState, at: int) -> CellState:
    """A command whose frame may have left is asked for, never sent again."""
    commands = {
        key: replace(c, phase="querying", since_at=at, round=c.round + 1)
        if c.phase in ("intended", "querying", "query_pause")
        else c
        for key, c in state.commands.items()
    }
    return replace(state, commands=commands)


def _notified(state: CellState, fact: facts.NotificationSent) -> CellState:
    """A notice goes when it was delivered, or when it could not be for too long; each attempt is on record."""
    notice = state.notifications.get(fact.notification_id)
    if notice is None or fact.delivered or notice.attempts + 1 >= NOTIFY_ATTEMPTS_MAX:
        return replace(state, notifications=_without(state.notifications, fact.notification_id))
    later = replace(notice, attempts=notice.attempts + 1, since_at=fact.at, due=False)
    return replace(state, notifications={**state.notifications, notice.notification_id: later})


def _episode(state: CellState, fact: facts.AnomalyDetected | facts.AnomalyUpdated | facts.AnomalyCleared) -> CellState:
    incident = state.incidents.get(state.incident_of.get(fact.episode_id, ""))
    match fact:
        case facts.AnomalyDetected():
            if fact.episode_id in state.incident_of:
                return state
            state = replace(state, episodes={**state.episodes, fact.episode_id: Episode(fact)})
            return _knowing(state, fact.evidence.setpoints, fact.evidence.row_at)
        case facts.AnomalyUpdated():
            state = _knowing(state, fact.evidence.setpoints, fact.evidence.row_at)
            if incident is not None:
                incident = replace(incident, evidence=fact.evidence)
        case facts.AnomalyCleared():
            state = replace(state, episodes=_without(state.episodes, fact.episode_id))
            if incident is not None:
                rest = incident.open_episodes - {fact.episode_id}
                incident = replace(incident, open_episodes=rest, quiet_since=fact.at)
    if incident is None:
        return state
    return replace(state, incidents={**state.incidents, incident.incident_id: incident})


def _incident(
    state: CellState,
    fact: facts.IncidentOpened | facts.IncidentJoined | facts.IncidentEscalated | facts.IncidentClosed,
) -> CellState:
    if isinstance(fact, facts.IncidentClosed):
        return replace(state, incidents=_without(state.incidents, fact.incident_id))
    known = state.incidents.get(fact.incident_id)
    if isinstance(fact, facts.IncidentEscalated):
        if known is None:
            return state
        escalated = replace(known, escalation=fact.reason, quiet_since=fact.at)
        return replace(state, incidents={**state.incidents, known.incident_id: escalated})
    episode = state.episodes.get(fact.episode_id)
    if episode is None:
        return state
    opened = episode.opened
    if isinstance(fact, facts.IncidentOpened):
        incident = Incident(
            incident_id=fact.incident_id,
            kind=fact.kind,
            opened_at=fact.at,
            onset_at=opened.onset_at,
            evidence=opened.evidence,
            assets=(opened.asset,),
            episodes=(fact.episode_id,),
            open_episodes=frozenset({fact.episode_id}),
            asked={"reflex": frozenset(), "proposal": frozenset()},
            quiet_since=fact.at,
        )
    elif known is None:
        return state
    else:
        incident = replace(
            known,
            assets=known.assets if opened.asset in known.assets else (*known.assets, opened.asset),
            episodes=(*known.episodes, fact.episode_id),
            open_episodes=known.open_episodes | {fact.episode_id},
        )
    episodes = {**state.episodes, fact.episode_id: Episode(opened, fact.incident_id)}
    incident_of = {**state.incident_of, fact.episode_id: fact.incident_id}
    closed = [key for key in incident_of if key not in episodes]
    for key in closed[: max(0, len(closed) - EPISODES_REMEMBERED)]:
        del incident_of[key]
    return replace(
        state,
        episodes=episodes,
        incident_of=incident_of,
        incidents={**state.incidents, incident.incident_id: incident},
    )


def _answer(
    state: CellState,
    fact: facts.ReasonerAsked
    | facts.ReasonerAnswered
    | facts.ReasonerFailed
    | facts.AnswerDropped
    | facts.PlanUnusable,
) -> CellState:
    if not isinstance(fact, facts.ReasonerAsked):
        return replace(state, asks=_without(state.asks, fact.request_id))
    request = fact.request
    incident = state.incidents.get(request.incident_id)
    if request.sentence is not None:
        return replace(state, asks={**state.asks, request.request_id: Ask(request, fact.at)})
    if incident is None:
        return state
    state = replace(state, asks={**state.asks, request.request_id: Ask(request, fact.at)})
    asked = {**incident.asked, request.tier: incident.asked[request.tier] | set(incident.assets)}
    incident = replace(incident, asked=asked, proposals=incident.proposals + (request.tier == "proposal"))
    return replace(state, incidents={**state.incidents, incident.incident_id: incident})


def _plan(
    state: CellState, fact: facts.PlanProposed | facts.PlanDropped | facts.PlanAdvanced | facts.PlanCompleted
) -> CellState:
    if isinstance(fact, facts.PlanProposed):
        plan = PlanProgress(
            plan_id=fact.plan_id,
            incident_id=fact.incident_id,
            origin=fact.origin,
            tier=fact.tier,
            who=fact.who,
            diagnosis="; ".join(finding.diagnosis for finding in fact.findings),
            commands=tuple(command.command_id for command in fact.commands),
        )
        commands = {c.command_id: CommandProgress(c, c.sha256(), since_at=fact.at) for c in fact.commands}
        return replace(
            state,
            plans={**state.plans, fact.plan_id: plan},
            commands={**state.commands, **commands},
            requests=_without(state.requests, fact.request_id),
        )
    ended = state.plans.get(fact.plan_id)
    if ended is None:
        return state
    if isinstance(fact, facts.PlanAdvanced):
        return replace(state, plans={**state.plans, fact.plan_id: replace(ended, step=fact.step)})
    # A command that may still be on its way, or whose moves the detectors have yet to hear of, stays in sight.
    commands = {
        key: c for key, c in state.commands.items() if key not in ended.commands or c.phase == "unresolved" or c.moves
    }
    state = replace(state, plans=_without(state.plans, fact.plan_id), commands=commands)
    incident = state.incidents.get(ended.incident_id)
    if incident is None:
        return state
    effective = isinstance(fact, facts.PlanCompleted) and ended.origin != "fallback" and bool(ended.commands)
    incident = replace(incident, quiet_since=fact.at, effective=incident.effective or effective)
    return replace(state, incidents={**state.incidents, incident.incident_id: incident})


def _request(state: CellState, fact: facts.OperatorRequested | facts.RequestRefused) -> CellState:
    if isinstance(fact, facts.RequestRefused):
        rebaselines = _without(state.rebaselines, fact.request_id)
        ask = state.ask_of(fact.request_id)
        asks = state.asks if ask is None else _without(state.asks, ask.request.request_id)
        requests = _without(state.requests, fact.request_id)
        return replace(state, requests=requests, rebaselines=rebaselines, asks=asks)
    if fact.request_id in state.seen_requests:
        return state
    state = replace(state, seen_requests=(*state.seen_requests, fact.request_id)[-REQUESTS_REMEMBERED:])
    if fact.kind in ("request", "hold", "ask"):
        return replace(state, requests={**state.requests, fact.request_id: fact})
    if fact.kind == "rebaseline":
        return replace(state, rebaselines={**state.rebaselines, fact.request_id: fact})
    return state


def _woken(state: CellState, fact: facts.TimeReached) -> CellState:
    wake = read_wake(fact.wake_id)
    if wake is not None and wake.kind == "renotify" and (notice := state.notifications.get(wake.subject)) is not None:
        return replace(state, notifications={**state.notifications, wake.subject: replace(notice, due=True)})
    progress = state.commands.get(wake.subject) if wake is not None else None
    # One that was armed before the phase began belongs to an earlier pause.
    if wake is None or progress is None or not wake.at > progress.since_at:
        return state
    if wake.kind == "retry" and progress.phase == "waiting":
        woken = replace(progress, phase="awaiting_snapshot", since_at=fact.at, round=progress.round + 1)
    elif wake.kind == "query" and progress.phase == "query_pause":
        woken = replace(progress, phase="querying", since_at=fact.at, round=progress.round + 1)
    else:
        return state
    return replace(state, commands={**state.commands, wake.subject: woken})


def _command(state: CellState, fact: CommandFact) -> CellState:
    if isinstance(fact, facts.SnapshotTaken | facts.ReadbackTaken):
        seen = {tag: r.value for tag, r in fact.readings.items() if r.good and r.value is not None}
        state = _knowing(state, seen, fact.read_at if isinstance(fact, facts.SnapshotTaken) else fact.at)
    if isinstance(fact, facts.SnapshotTaken):
        return state
    if isinstance(fact, facts.TagsRebaselined):
        state = replace(state, rebaselines=_without(state.rebaselines, fact.cause_id))
    command_id = subject(fact)
    progress = state.commands.get(command_id)
    if progress is None:
        return state
    if isinstance(fact, facts.CommandIntended):
        state = _remember(state, fact)
    after = moved(progress, fact)
    owed = any(command_id in plan.commands for plan in state.plans.values())
    if not owed and not after.moves and after.phase != "unresolved":
        return replace(state, commands=_without(state.commands, command_id))
    return replace(state, commands={**state.commands, command_id: after})


def _remember(state: CellState, fact: facts.CommandIntended) -> CellState:
    """Keep what budgets need, an hour back."""
    command, direction = fact.command, 0
    for name, value in command.args.items():
        before = command.from_values.get(name, value)
        direction = (value > before) - (value < before)
        break
    sent = Sent(fact.at, command.action, command.robot, direction)
    recent = tuple(s for s in state.history if s.at > fact.at - HISTORY_US)
    return replace(state, history=(*recent, sent))
