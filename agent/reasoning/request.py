"""An incident becomes a question: slots instead of ids, evidence as it stands."""

from __future__ import annotations

from agent.cell import CellState
from agent.identity import derive
from agent.incident import Incident
from schemas.plans import ReasonerRequest, Slot, Tier
from schemas.policy import Policy


def question_of(state: CellState, incident: Incident, tier: Tier, policy: Policy) -> ReasonerRequest:
    """Return the question that this tier is asked about an incident now."""
    number = incident.proposals if tier == "proposal" else len(incident.asked["reflex"])
    return ReasonerRequest(
        request_id=derive(incident.incident_id, tier, str(number)),
        incident_id=incident.incident_id,
        tier=tier,
        slots=_slots(state, incident),
        evidence=incident.evidence,
        deadline_s=policy.reflex_deadline_s if tier == "reflex" else policy.reasoner_deadline_s,
    )


def _slots(state: CellState, incident: Incident) -> tuple[Slot, ...]:
    opened = [state.episodes[e].opened for e in incident.episodes if e in state.episodes]
    return tuple(
        Slot(name=f"E{n}", asset=o.asset, tag=o.tag, detector=o.detector, direction=o.direction)
        for n, o in enumerate(opened, start=1)
    )
