"""How well each known cause fits the evidence, sign by sign: words for a small model to weigh, no verdict.

A cause is a rule of the site's playbook. Each sign that its rule asks for gets a mark. What the marks together are
worth is not decided here: a rule fits or does not, a model weighs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from agent.reasoning.canonical import CanonicalEvidence, Sign
from agent.reasoning.repertoire import Repertoire, rounded_6
from agent.reasoning.space import PlanSpace, Target
from schemas import playbook
from schemas.playbook import Bucket, Rule

Mark = Literal[
    "shows", "partly", "lacks", "hidden", "doubted",
    "clear", "spoilt", "unseen", "undecided",
]  # fmt: skip
"""Of a deviation that the rule asks for: it shows; the right way but not as far; it is not there; not known; only a
doubtful measurement shows it. Of something that must be normal: it is; it is not; not known; not known, and another
cause would show itself by it."""

DOUBTFUL: Final = frozenset({"quality", "stale", "stuck"})
"""Detectors that doubt the measurement and not the process."""
DEVIATING: Final = frozenset({"very_low", "low", "high", "very_high"})
FOUND: Final = frozenset({"shows", "partly", "doubted"})
"""Marks that make a cause worth a word."""
AGAINST: Final = frozenset({"lacks", "spoilt"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cause of which something is to be seen."""

    rule: Rule
    marks: tuple[Mark, ...]
    """In the order of the rule's signs."""
    lead: str
    """Slot of the tag that a finding about it is about: the worst that shows it and has an episode."""
    ready: bool
    """Whether all that the site does against it can be done now."""
    within: tuple[str, ...] = ()
    """Causes of the same equipment, of which something is to be seen, that show all that this one does, and more: where
    one of them stands, this one says nothing."""


def candidates(evidence: CanonicalEvidence, space: PlanSpace, repertoire: Repertoire) -> tuple[Candidate, ...]:
    """Return the causes of which something is to be seen, in the order of the playbook, each cause once.

    A cause without a tag on its equipment that a finding could be about is left out.
    """
    found: dict[str, Candidate] = {}
    for rule in repertoire.signatures:
        targets = [target for target in space.targets if target.asset == rule.asset]
        marks = marks_of(rule, evidence, repertoire.signatures)
        if not targets or not FOUND & set(marks):
            continue
        one = Candidate(rule, marks, _lead(rule, marks, evidence), ready(rule, targets[0]))
        if rule.name not in found or _against(one) < _against(found[rule.name]):
            found[rule.name] = one
    return tuple(replace(one, within=_within(one, found.values())) for one in found.values())


def marks_of(rule: Rule, evidence: CanonicalEvidence, rules: Sequence[Rule]) -> tuple[Mark, ...]:
    """Return how each sign of a rule stands."""
    shown = {sign.tag: sign for sign in evidence.signs}
    return tuple(
        _must_be_normal(asked, shown.get(asked.tag), rule, rules)
        if "normal" in asked.buckets
        else _must_deviate(asked.buckets, shown.get(asked.tag))
        for asked in rule.when
    )


def doubtful(sign: Sign) -> bool:
    """Return whether a detector doubts the measurement."""
    return bool(DOUBTFUL & set(sign.detectors))


def standing(sign: Sign | None) -> Bucket:
    """Return where a tag stands. One that is in no bucket but was found to move stands at least `high` or `low`."""
    if sign is None:
        return "unknown"
    if sign.bucket != "unknown" or doubtful(sign):
        return sign.bucket
    by_direction: dict[str, Bucket] = {"up": "high", "down": "low"}
    return by_direction.get(sign.direction, "unknown")


def ready(rule: Rule, target: Target) -> bool:
    """Return whether every action of a rule can be taken, with the rule's own values. True also if it has none."""
    offered = {action.name: action for action in target.actions}
    for asked in rule.actions:
        action = offered.get(asked.name)
        if action is None or set(asked.args) != {argument.name for argument in action.args}:
            return False
        if any(f"{rounded_6(asked.args[argument.name]):.6g}" not in argument.values for argument in action.args):
            return False
    return True


def _must_deviate(wanted: Sequence[Bucket], sign: Sign | None) -> Mark:
    bucket = standing(sign)
    doubted = sign is not None and doubtful(sign)
    if bucket in wanted and bucket != "unknown":
        return "doubted" if doubted else "shows"
    if bucket == "unknown" or doubted:
        return "hidden"
    side = bucket.removeprefix("very_")
    return "partly" if bucket in DEVIATING and any(each.endswith(side) for each in wanted) else "lacks"


def _must_be_normal(asked: playbook.Sign, sign: Sign | None, rule: Rule, rules: Sequence[Rule]) -> Mark:
    bucket = standing(sign)
    if bucket == "unknown" or (sign is not None and doubtful(sign)):
        return "undecided" if any(_rivals(other, rule, asked.tag) for other in rules) else "unseen"
    return "clear" if bucket in asked.buckets else "spoilt"


def _rivals(other: Rule, rule: Rule, tag: str) -> bool:
    """Whether another cause on the same equipment would show itself by this tag."""
    if other.asset != rule.asset or other.name == rule.name:
        return False
    return any(sign.tag == tag and "normal" not in sign.buckets for sign in other.when)


def _lead(rule: Rule, marks: Sequence[Mark], evidence: CanonicalEvidence) -> str:
    shown_by = {asked.tag: mark for asked, mark in zip(rule.when, marks, strict=True)}
    own = [sign for sign in evidence.targets if sign.asset == rule.asset]
    ranks = (
        [sign for sign in own if shown_by.get(sign.tag) in ("shows", "partly")],
        [sign for sign in own if not doubtful(sign)],
        [sign for sign in own if shown_by.get(sign.tag) == "doubted"],
        own,
    )
    return next(signs[0].slot for signs in ranks if signs)


def _within(one: Candidate, found: Iterable[Candidate]) -> tuple[str, ...]:
    shows = deviating(one.rule)
    return tuple(o.rule.name for o in found if o.rule.asset == one.rule.asset and shows < deviating(o.rule))


def deviating(rule: Rule) -> set[str]:
    """Return the tags that a cause makes deviate."""
    return {asked.tag for asked in rule.when if "normal" not in asked.buckets}


def _against(candidate: Candidate) -> int:
    return sum(mark in AGAINST for mark in candidate.marks)
