"""The playbook reasoner: written rules, first match per asset, milliseconds, no model."""

from __future__ import annotations

import msgspec

from schemas.evidence import Evidence
from schemas.plans import Completion, Finding, Plan, PlannedAction, ReasonerRequest
from schemas.playbook import Playbook, Rule


class PlaybookReasoner:
    """Answers from `playbook.toml`."""

    name = "playbook"

    def __init__(self, playbook: Playbook, sha256: str) -> None:
        """Take the rules.

        Args:
            playbook: The rules, in order.
            sha256: Of the file they came from; recorded with each answer.
        """
        self._rules, self._sha256 = playbook.rules, sha256

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer at once: one finding per asset of the question that a rule matches."""
        return Completion(raw=answer(self._rules, request), reasoner=self.name, model={"playbook_sha256": self._sha256})


def answer(rules: tuple[Rule, ...], request: ReasonerRequest) -> str:
    """Return the plan of the matching rules, as the JSON that any reasoner would give."""
    findings, seen = [], set()
    for slot in request.slots:
        if slot.asset in seen:
            continue
        seen.add(slot.asset)
        rule = next((r for r in rules if _matches(r, request, slot.asset)), None)
        if rule is not None:
            actions = tuple(PlannedAction(a.name, dict(a.args)) for a in rule.actions)
            findings.append(Finding(slot.name, slot.asset, rule.diagnosis, actions))
    return msgspec.json.encode(Plan(tuple(findings))).decode()


def _matches(rule: Rule, request: ReasonerRequest, asset: str) -> bool:
    if rule.tier != request.tier or rule.asset != asset:
        return False
    return all(_bucket(request.evidence, sign.tag) in sign.buckets for sign in rule.when)


def _bucket(evidence: Evidence, tag: str) -> str:
    return next((t.bucket for t in evidence.tags if t.tag == tag), "unknown")
