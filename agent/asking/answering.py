"""An interpretation as the text of a plan, in the form that every reasoner answers in. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.reasoning.repertoire import Repertoire
from schemas.plans import FINDINGS_MAX, Finding, Plan, PlannedAction, ReasonerRequest
from schemas.sentences import Interpretation, NotUnderstood, Understood

DIAGNOSIS_CHARS_MAX = 200


def plan_of(
    interpretation: Interpretation, request: ReasonerRequest, repertoire: Repertoire
) -> tuple[Plan, Interpretation]:
    """Return the plan in the order of the sentence, and the interpretation less what a plan cannot hold."""
    evidence = {slot.asset: slot.name for slot in request.slots}
    findings: list[Finding] = []
    kept: list[Understood] = []
    left: list[NotUnderstood] = []
    for part in interpretation.understood:
        action = repertoire.rules.catalogue.action(part.action)
        asset = repertoire.asset_of(action) if action is not None else ""
        planned = PlannedAction(part.action, part.args)
        if findings and findings[-1].asset == asset:
            findings[-1] = _joined(findings[-1], planned, part.words)
        elif len(findings) < FINDINGS_MAX:
            findings.append(Finding(evidence[asset], asset, _shown([part.words]), (planned,)))
        else:
            reason = f"a plan changes between pieces of equipment at most {FINDINGS_MAX - 1} times"
            left.append(NotUnderstood(part.words, reason))
            continue
        kept.append(part)
    return Plan(tuple(findings)), msgspec.structs.replace(
        interpretation, understood=tuple(kept), not_understood=(*interpretation.not_understood, *left)
    )


def _joined(finding: Finding, planned: PlannedAction, words: str) -> Finding:
    return Finding(finding.evidence, finding.asset, _shown([finding.diagnosis, words]), (*finding.actions, planned))


def _shown(said: Sequence[str]) -> str:
    """Return what was said, for the person who approves: printable ASCII, as every diagnosis."""
    text = "; ".join(said)
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:DIAGNOSIS_CHARS_MAX]
