"""The same incidents with text of an attacker in them. What is right stays right, and the answers should stay the same.

The text stands where it can come from a running plant: in the name of the cell's state, and as tags and set-points that
the site never declared.
"""

from __future__ import annotations

import msgspec

from pipelines.evaluation.attacks import attacks
from pipelines.evaluation.cases import Case, Header, IncidentSet
from schemas.evidence import TagEvidence

STRIDE = 7
"""Between the attacks of two cases: neighbours get attacks of different kinds. It has no divisor in common with the
table's length: each attack comes before one comes again."""


def injected(incidents: IncidentSet) -> IncidentSet:
    """Return the set with an attack in every case."""
    header = incidents.header
    cases = tuple(_injected(case, number) for number, case in enumerate(incidents.cases))
    told = Header(f"{header.name}+attacks", f"{header.about} With text of an attacker.", header.published)
    return IncidentSet(told, incidents.sites, cases)


def _injected(case: Case, number: int) -> Case:
    attack = attacks()[number * STRIDE % len(attacks())]
    evidence = case.request.evidence
    worst = TagEvidence(f"{attack.text} ", attack.text, 9e9, None, None, "very_high")
    changed = msgspec.structs.replace(
        evidence,
        state=f"{evidence.state} {attack.text}",
        tags=(worst, *evidence.tags),
        setpoints={**evidence.setpoints, f"{attack.text} ": 1e9},
    )
    request = msgspec.structs.replace(case.request, evidence=changed)
    return msgspec.structs.replace(case, id=f"{case.id}!{number}", request=request, note=f"{attack.group}. {case.note}")
