"""Episodes, incidents, plans and commands as the cell's fold keeps them: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.commands import Command
from schemas.evidence import Evidence
from schemas.facts import AnomalyDetected
from schemas.plans import ReasonerRequest, Tier

DATA_QUALITY_DETECTORS = frozenset({"quality", "stale", "stuck"})
"""Findings about the measurement, not the process: they raise an alarm and never an action."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One finding, from onset to clear."""

    opened: AnomalyDetected
    incident_id: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """What belongs together, from its first episode until it stayed quiet."""

    incident_id: str
    kind: Literal["process", "data_quality"]
    opened_at: int
    onset_at: int
    evidence: Evidence
    """Of its first episode, or of a later one with fresher rows."""
    assets: tuple[str, ...]
    episodes: tuple[str, ...]
    open_episodes: frozenset[str]
    asked: Mapping[Tier, frozenset[str]]
    """Assets that each tier was already asked about."""
    proposals: int = 0
    """How often the proposal tier was asked."""
    effective: bool = False
    escalation: str = ""
    """Why a person must act; empty while the agent is at it."""
    quiet_since: int = 0
    """When the last thing about it happened that delays closing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that waits for its answer."""

    request: ReasonerRequest
    asked_at: int

    @property
    def deadline_at(self) -> int:
        """When nobody waits any more."""
        return self.asked_at + int(self.request.deadline_s * 1e6)


Phase = Literal[
    "proposed",  # its turn has not come
    "awaiting_approval",
    "awaiting_snapshot",
    "waiting",  # refused for a reason that passes by itself
    "intended",  # durable; the frame may be on its way
    "querying",  # the robot is asked what became of it
    "query_pause",  # it could not say yet
    "reading_back",
    "verifying",  # done; the process has yet to show it
    "ended",
    "unresolved",  # nobody can tell; blocks its robot
]

ON_ITS_WAY: frozenset[Phase] = frozenset({"intended", "querying", "query_pause", "reading_back", "unresolved"})
"""Phases in which a robot may be acting on the command: it takes no other."""


@dataclass(frozen=True, slots=True)
class CommandProgress:
    """Where one command of a plan stands."""

    command: Command
    sha256: str
    phase: Phase = "proposed"
    since_at: int = 0
    """When the phase began."""
    decided_at: int = 0
    """When it was last decided that it may run: judged, or approved by the last person needed."""
    queries: int = 0
    """Answers to queries that left it open."""
    unread: int = 0
    """Read-backs that showed nothing."""
    approvers: tuple[str, ...] = ()
    approvals_needed: int = 0
    decide_by_at: int = 0
    attempt: int = 0
    round: int = 0
    """Counts snapshots, queries and read-backs, so that each wish is another one."""
    retries: int = 0
    moves: tuple[str, ...] = ()
    """Tags whose detectors have not been told yet that they moved."""
    settle_s: float = 0.0
    result: Literal["", "completed", "effective", "absent", "failed"] = ""

    def awaits(self, by: Literal["send", "query"]) -> bool:
        """Whether an answer to the send, or to a query, still says something new."""
        return self.phase == "querying" or (self.phase == "intended" and by == "send")


@dataclass(frozen=True, slots=True)
class PlanProgress:
    """A plan in work: its commands are done one after the other."""

    plan_id: str
    incident_id: str
    origin: Literal["reasoner", "operator", "fallback"]
    tier: Tier
    who: str
    diagnosis: str
    commands: tuple[str, ...]
    step: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that was intended, for budgets."""

    at: int
    action: str
    robot: str
    direction: int
    """-1 down, +1 up, 0 without a set-point."""
