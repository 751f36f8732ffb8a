"""What is right to answer: it follows from the faults that can be told, and from what is doubted or unexplained.

Those that can be told are named and mended, doubted measurements are named, and what nothing explains is a person's
affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.reasoning.canonical import CanonicalEvidence, Sign
from agent.reasoning.repertoire import SENSOR_FAULT, UNKNOWN_CAUSE
from pipelines.training.cells import TrainingCell
from pipelines.training.faults import NOT_SEEN, Fault, Seen
from schemas.plans import ACTIONS_MAX, FINDINGS_MAX, PlannedAction, ReasonerRequest


@dataclass(frozen=True, slots=True)
class Finding:
    """What is right to say about one tag."""

    slot: str
    diagnosis: str
    actions: tuple[PlannedAction, ...] = ()


def right_findings(
    cell: TrainingCell,
    known: Sequence[Fault],
    seen: Mapping[str, Seen],
    evidence: CanonicalEvidence,
    request: ReasonerRequest,
) -> tuple[Finding, ...] | None:
    """Return what is right to say, in the order of the evidence; None if no plan can say it.

    Args:
        cell: Where it happens.
        known: The faults that can be told.
        seen: How each tag stands, as far as it can be known.
        evidence: What the model is told.
        request: The question, with the present set-points.
    """
    found: list[Finding] = []
    for fault in known:
        target = _target_of(fault, seen, evidence)
        if target is None:
            return None  # nothing that a finding could be about: the detectors missed this equipment
        actions = fault.remedy if possible(fault, cell, request.evidence.setpoints) else ()
        found.append(Finding(target.slot, fault.cause, actions))
    found += _doubted(seen, evidence) + _unexplained(cell, known, seen, evidence)
    slots, named = [f.slot for f in found], [action.name for f in found for action in f.actions]
    if len(set(slots)) != len(slots) or len(set(named)) != len(named):
        return None
    if len(found) > FINDINGS_MAX or len(named) > ACTIONS_MAX:
        return None
    return tuple(sorted(found, key=lambda f: int(f.slot[1:])))


def _target_of(fault: Fault, seen: Mapping[str, Seen], evidence: CanonicalEvidence) -> Sign | None:
    """Return the worst tag of the equipment with an episode that shows the fault, or else any that is believed."""
    own = [sign for sign in evidence.targets if sign.asset == fault.asset and not seen.get(sign.tag, NOT_SEEN).doubted]
    deviating = [s for s in own if s.tag in fault.shows and seen[s.tag].bucket not in ("normal", "unknown")
                 and any(b.endswith(seen[s.tag].bucket.removeprefix("very_")) for b in fault.shows[s.tag])]  # fmt: skip
    return next(iter([*deviating, *own]), None)


def _doubted(seen: Mapping[str, Seen], evidence: CanonicalEvidence) -> list[Finding]:
    """Name the worst doubted measurement of each equipment."""
    by_asset: dict[str, Finding] = {}
    for sign in evidence.targets:
        if seen.get(sign.tag, NOT_SEEN).doubted:
            by_asset.setdefault(sign.asset, Finding(sign.slot, SENSOR_FAULT))
    return list(by_asset.values())


def _unexplained(
    cell: TrainingCell, known: Sequence[Fault], seen: Mapping[str, Seen], evidence: CanonicalEvidence
) -> list[Finding]:
    """Name the worst deviation of each equipment, if no fault that can be told explains it."""
    by_asset: dict[str, Sign] = {}
    for sign in evidence.targets:
        stands = seen.get(sign.tag, NOT_SEEN)
        if stands.bucket not in ("normal", "unknown") and not stands.doubted:
            by_asset.setdefault(sign.asset, sign)
    return [
        Finding(sign.slot, UNKNOWN_CAUSE)
        for sign in by_asset.values()
        if not any(fault.asset == sign.asset or _moved(fault, sign.tag, cell) for fault in known)
    ]


def _moved(fault: Fault, tag: str, cell: TrainingCell) -> bool:
    mends = {action.name for action in fault.remedy}
    return any(tag in action.moves for action in cell.repertoire.actions if action.name in mends)


def possible(fault: Fault, cell: TrainingCell, setpoints: Mapping[str, float]) -> bool:
    """Return whether a fault can be mended now: every action is there, with its value, within one command's step."""
    for planned in fault.remedy:
        action = cell.repertoire.rules.catalogue.action(planned.name)
        if action is None:
            return False
        for argument in action.args:
            value, present = planned.args[argument.name], setpoints.get(argument.tag)
            low, high = cell.repertoire.range_of(action, argument)
            if not low <= value <= high or value == present:
                return False
            if present is not None and argument.max_step is not None and abs(value - present) > argument.max_step:
                return False
    return True
