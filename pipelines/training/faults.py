"""What a fault is to the generator of incidents: what it makes deviate, what tells it from others, what mends it.

From this a playbook is written (`rule_of`), as a site's engineer would write down what he knows, and from this the
right answer to an incident is known. Neither asks the reasoner of the playbook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.plans import PlannedAction
from schemas.playbook import Bucket, Playbook, Rule, RuleAction, Sign


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can break on one piece of equipment."""

    cause: str
    asset: str
    shows: Mapping[str, tuple[Bucket, ...]]
    """What it makes deviate, by tag, and in which buckets that tag is then."""
    normal: Mapping[str, tuple[Bucket, ...]]
    """What it leaves normal, where another fault of the same equipment would not."""
    side: tuple[str, ...]
    """Tags that may deviate with it, and tell nothing."""
    remedy: tuple[PlannedAction, ...]
    """What mends it, in this order. None: nobody knows."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How one tag stands in an incident, as far as can be known."""

    bucket: Bucket
    doubted: bool = False
    """A detector doubts the measurement."""


NOT_SEEN = Seen("unknown")


def rule_of(fault: Fault) -> Rule:
    """Return a fault as a rule of a playbook."""
    signs = [Sign(tag=tag, buckets=buckets) for tag, buckets in [*fault.shows.items(), *fault.normal.items()]]
    actions = tuple(RuleAction(name=action.name, args=action.args) for action in fault.remedy)
    return Rule(
        name=fault.cause, tier="proposal", asset=fault.asset, diagnosis=fault.cause, when=tuple(signs), actions=actions
    )


def playbook_of(faults: Iterable[Fault]) -> Playbook:
    """Return the playbook of a cell, its rules in this order."""
    return Playbook(rules=tuple(rule_of(fault) for fault in faults))


def told(fault: Fault, seen: Mapping[str, Seen], faults: Iterable[Fault]) -> bool:
    """Return whether this fault can be told from what is seen.

    At least one of its deviations must show in full, and two for each that is known to be absent; what it leaves normal
    must not deviate; and if that is not known, no other fault of the equipment may show itself by it.
    """
    full = partly = absent = 0
    for tag, buckets in fault.shows.items():
        stands = seen.get(tag, NOT_SEEN)
        if stands.bucket == "unknown" or stands.doubted:
            continue
        full += stands.bucket in buckets
        partly += stands.bucket not in buckets and _same_side(stands.bucket, buckets)
        absent += not _same_side(stands.bucket, buckets)
    for tag, buckets in fault.normal.items():
        stands = seen.get(tag, NOT_SEEN)
        if stands.bucket == "unknown" or stands.doubted:
            if any(tag in o.shows for o in faults if o.asset == fault.asset and o.cause != fault.cause):
                return False
        elif stands.bucket not in buckets:
            return False
    return full >= 1 and full + partly >= 2 * absent


def all_told(faults: Iterable[Fault], seen: Mapping[str, Seen]) -> tuple[Fault, ...]:
    """Return the faults that can be told; one whose deviations are all part of another's says nothing beside it."""
    known = tuple(faults)
    found = [fault for fault in known if told(fault, seen, known)]
    return tuple(f for f in found if not any(set(f.shows) < set(o.shows) for o in found if o.asset == f.asset))


def _same_side(bucket: Bucket, buckets: Iterable[Bucket]) -> bool:
    side = bucket.removeprefix("very_")
    return side != "normal" and any(each.endswith(side) for each in buckets)
