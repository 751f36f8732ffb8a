"""Cases for a site that has no log yet, made from its playbook: its own rules, in company that must confuse nobody.

What a rule says is taken for right: this measures whether a reasoner agrees with the site's handbook, does nothing
about what the handbook does not know, and leaves a healthy cell alone. Whether the handbook is right is not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeVar, get_args

import numpy as np

from connectors.reasoners.playbook import answer
from pipelines.evaluation.cases import (
    Case,
    Header,
    IncidentSet,
    RightAction,
    RightFinding,
    RightPlan,
    Rules,
    Site,
    direction_of,
    rules_of,
)
from schemas.catalogue import Action, Argument
from schemas.evidence import Evidence, TagEvidence
from schemas.plans import ReasonerRequest, Slot
from schemas.plant import Tag
from schemas.playbook import Bucket, Rule

Kind = Literal["known", "in company", "two at once", "not in the playbook", "nothing wrong"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
AT: Final = 1_767_225_600_000_000
DEADLINE_S: Final = 10.0
T = TypeVar("T")
COMPANY_MAX: Final = 3
DEVIATIONS: Final[tuple[Bucket, ...]] = ("high", "low", "very_high", "very_low")
SMALL: Final[tuple[Bucket, ...]] = ("normal", "high", "low")
TRIES_MAX: Final = 200
"""Draws for one case before the class is given up: a playbook of one asset has no two at once."""


def generated_set(site: Site, count: int, seed: int) -> IncidentSet:
    """Return up to `count` cases of each class, the same for the same seed.

    A class that the site cannot have is left out.
    """
    rules = rules_of(site)
    cases = [case for kind in KINDS for number in range(count) if (case := _case(kind, number, seed, site, rules))]
    about = f"Generated from the playbook of {site.name} with seed {seed}."
    return IncidentSet(Header(f"generated-{site.name}", about), {site.name: site}, tuple(cases))


def _case(kind: Kind, number: int, seed: int, site: Site, rules: Rules) -> Case | None:
    random = np.random.default_rng([seed, KINDS.index(kind), number])
    for _ in range(TRIES_MAX):
        drawn = _drawn(kind, rules, random)
        if drawn is None:
            continue
        found, right = drawn
        request = _request(f"{kind.replace(' ', '_')}-{number}", found, right, rules, random)
        if _plays(request, rules) == [rule.name for rule in right]:
            return Case(request.request_id, site.name, kind, request, (_plan(right, rules),), note=_note(right))
    return None


def _drawn(kind: Kind, rules: Rules, random: np.random.Generator) -> tuple[dict[str, Bucket], list[Rule]] | None:
    """Return the buckets of tags, episodes first, and the rules that hold; None: this draw was none of the kind."""
    proposals = [rule for rule in rules.playbook.rules if rule.tier == "proposal"]
    tags = [tag for tag in rules.rulebook.cell.tags if tag.role == "process"]
    if kind in ("not in the playbook", "nothing wrong"):
        bucket: Bucket = "normal" if kind == "nothing wrong" else _one(DEVIATIONS, random)
        return {_one(tags, random).name: bucket}, []
    wanted = 2 if kind == "two at once" else 1
    if len(proposals) < wanted:
        return None
    chosen = [proposals[int(n)] for n in sorted(random.choice(len(proposals), wanted, replace=False))]
    if len({rule.asset for rule in chosen}) < wanted:
        return None
    found: dict[str, Bucket] = {}
    for rule in chosen:
        for sign in rule.when:
            found[sign.tag] = _one(sign.buckets, random)
    if kind == "in company":
        for tag in (_one(tags, random) for _ in range(int(random.integers(1, COMPANY_MAX + 1)))):
            found.setdefault(tag.name, _one(SMALL, random))
    return found, chosen


def _request(
    name: str, found: Mapping[str, Bucket], right: Sequence[Rule], rules: Rules, random: np.random.Generator
) -> ReasonerRequest:
    cell = rules.rulebook.cell
    tags = {tag.name: tag for tag in cell.tags}
    deviating = [tag for tag, bucket in found.items() if bucket not in ("normal", "unknown")] or list(found)[:1]
    return ReasonerRequest(
        request_id=name,
        incident_id=name,
        tier="proposal",
        slots=tuple(
            Slot(f"E{n}", tags[tag].asset, tag, "limit" if tags[tag].limits else "shift", direction_of(found[tag]))
            for n, tag in enumerate(deviating, start=1)
        ),
        evidence=Evidence(
            row_at=AT,
            tags=tuple(TagEvidence(tag, tags[tag].asset, None, None, None, bucket) for tag, bucket in found.items()),
            setpoints=_setpoints(right, rules, tags, random),
            state="EXECUTE",
        ),
        deadline_s=DEADLINE_S,
    )


def _setpoints(
    right: Sequence[Rule], rules: Rules, tags: Mapping[str, Tag], random: np.random.Generator
) -> dict[str, float]:
    """Return set-points from which each right value is one step away, in a direction that is not class D.

    Where two rules give one argument different values, those count that hold in this case; of the others any serves.
    """
    used = {
        (a.name, name): value
        for rule in (*rules.playbook.rules, *right)
        for a in rule.actions
        for name, value in a.args.items()
    }
    present: dict[str, float] = {}
    for action in rules.catalogue.actions:
        for argument in action.args:
            if argument.tag in tags:
                wanted = used.get((action.name, argument.name))
                present[argument.tag] = _start(wanted, action, argument, random)
    return present


def _start(wanted: float | None, action: Action, argument: Argument, random: np.random.Generator) -> float:
    low, high = argument.min, argument.max
    if wanted is None:
        return round(float(random.uniform(low, high)), 1)
    reach = min(argument.max_step if argument.max_step is not None else high - low, high - low)
    above, below = min(high, wanted + reach), max(low, wanted - reach)
    if action.effect_direction != "none" and action.risk_class_away == "D":
        return above if action.effect_direction == "decrease" else below
    ends = [end for end in (above, below) if end != wanted]
    return float(_one(ends, random)) if ends else wanted


def _plays(request: ReasonerRequest, rules: Rules) -> list[str]:
    """Return the names of the rules that the playbook would answer with, in the playbook's order."""
    said = answer(rules.playbook.rules, request)
    return [rule.name for rule in rules.playbook.rules if rule.tier == "proposal" and f'"{rule.diagnosis}"' in said]


def _plan(right: Sequence[Rule], rules: Rules) -> RightPlan:
    return RightPlan(
        tuple(
            RightFinding(
                rule.asset,
                (rule.name,),
                tuple(RightAction(a.name, {k: (v, v) for k, v in a.args.items()}) for a in rule.actions),
            )
            for rule in right
        )
    )


def _note(right: Sequence[Rule]) -> str:
    return ", ".join(rule.name for rule in right) or "no rule"


def _one(among: Sequence[T], random: np.random.Generator) -> T:
    return among[int(random.integers(len(among)))]
