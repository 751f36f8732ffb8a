"""Which facts a person must hear of, and in which words."""

from __future__ import annotations

from dataclasses import dataclass

from schemas import facts
from schemas.facts import AnyFact

NOTIFY_ATTEMPTS_MAX = 6
NOTIFY_RETRY_S = 5.0
"""Agent time before the second attempt, doubled; the last comes about five minutes after the first."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to deliver at least once."""

    notification_id: str
    title: str
    text: str
    urgent: bool
    attempts: int = 0
    """How often it could not be delivered."""
    since_at: int = 0
    """When it was last tried."""
    due: bool = True
    """False while the next attempt waits."""

    @property
    def again_at(self) -> int:
        """When to try again: the pause doubles."""
        return self.since_at + int(NOTIFY_RETRY_S * 2**self.attempts * 1e6)


def notice_of(fact: AnyFact) -> Notice | None:
    """Return what a person must hear because of this fact; None: nothing."""
    match fact:
        case facts.AnomalyDetected():
            return Notice(
                f"anomaly:{fact.episode_id}", f"{fact.severity} {fact.detector}: {fact.tag}", fact.detail, False
            )
        case facts.ApprovalRequested():
            return Notice(
                f"approval:{fact.command_id}",
                "Your decision is needed",
                f"command {fact.command_id[:8]} waits for {fact.approvals} approval(s)",
                True,
            )
        case facts.IncidentEscalated():
            subject = fact.incident_id or "operator request"
            return Notice(f"escalated:{subject}:{fact.at}", f"Incident {subject[:8]} needs you", fact.reason, True)
        case facts.CommandUnresolved():
            return Notice(
                f"unresolved:{fact.command_id}",
                f"Nobody can tell whether command {fact.command_id[:8]} was done",
                f"{fact.reason}. Look at the machine, then: jidoka resolve {fact.command_id[:8]} --reason ...",
                True,
            )
        case _:
            return None
