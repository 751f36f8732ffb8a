"""Incidents with their right answers: what a detector would have said, and what a person who knows the cell would do.

Faults are drawn first, then how the tags of the cell stand because of them, then what of that is seen: tags that are
not shown, deviations that are missing or weaker than usual, ones that nothing explains, measurements that are doubted.
The right answer follows from the faults (`right`). An incident whose evidence tells another story than its faults is
drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

import numpy as np

from agent.reasoning.canonical import CanonicalEvidence, canonical
from agent.reasoning.repertoire import SENSOR_FAULT, UNKNOWN_CAUSE
from agent.reasoning.space import STOP, Draft, PlanSpace, space_of
from pipelines.evaluation.cases import direction_of
from pipelines.training.cells import TrainingCell
from pipelines.training.faults import NOT_SEEN, Fault, Seen, all_told
from pipelines.training.right import Finding, possible, right_findings
from schemas.evidence import Evidence, TagEvidence
from schemas.plans import ReasonerRequest, Slot
from schemas.playbook import Bucket

Story = Literal["single", "several", "no_fault", "unknown", "sensor", "mixed"]
STORIES: Final[tuple[Story, ...]] = get_args(Story)
SHARES: Final = (0.36, 0.2, 0.1, 0.14, 0.1, 0.1)
"""Of the stories, in training."""
DEVIATIONS: Final[tuple[Bucket, ...]] = ("very_low", "low", "high", "very_high", "high", "very_high")
DETECTORS: Final = ("limit", "shift", "limit", "shift", "a_detector_of_the_site")
DOUBTS: Final = ("quality", "stale", "stuck")
TRIES_MAX: Final = 60
SHOWN_MAX: Final = 16
STATES: Final = ("EXECUTE", "EXECUTE", "EXECUTE", "EXECUTE", "HELD", "SUSPENDED", "IDLE")


@dataclass(frozen=True, slots=True)
class Incident:
    """One question with the right answer to it."""

    story: Story
    request: ReasonerRequest
    space: PlanSpace
    evidence: CanonicalEvidence
    right: tuple[Finding, ...]
    missing: bool
    """A fault that can be told cannot be mended: an action is not there, or not with that value now."""

    def drafts(self) -> Iterator[tuple[Draft, str]]:
        """Yield the choices that lead to the right answer: the draft before each, and the option.

        Raises:
            ValueError: it is none that could have been chosen.
        """
        draft = Draft(self.space)
        for option in self._options():
            yield draft, option
            draft = draft.take(option)

    def plan(self) -> Draft:
        """Return the right answer."""
        last, option = list(self.drafts())[-1]
        return last.take(option)

    def _options(self) -> list[str]:
        options: list[str] = []
        for finding in self.right:
            target = next(target for target in self.space.targets if target.slot == finding.slot)
            options += [finding.slot, finding.diagnosis]
            for action in finding.actions:
                offered = next((a for a in target.actions if a.name == action.name), None)
                if offered is None or {argument.name for argument in offered.args} != set(action.args):
                    raise ValueError(f"{action.name} with {', '.join(action.args) or 'nothing'} was not offered")
                options += [action.name, *(f"{action.args[argument.name]:.6g}" for argument in offered.args)]
            options.append(STOP)
        return [*options, STOP]


@dataclass(slots=True)
class _Scene:
    """An incident in the making."""

    seen: dict[str, Seen]
    """Every watched tag, as it is."""
    faults: list[Fault] = field(default_factory=list)
    episodes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Tags with episodes, and the detectors that opened them."""


def incident(
    cell: TrainingCell, rng: np.random.Generator, *, story: Story, noise: float, together: range = range(2, 4)
) -> Incident | None:
    """Draw an incident.

    Args:
        cell: Where it happens.
        rng: Draws.
        story: What has happened.
        noise: Probability with which a tag that matters is not shown, weaker, missing, or deviates for nothing.
        together: How many faults `several` are.

    Returns:
        None: this cell has no such incident, or none was found.
    """
    for _ in range(TRIES_MAX):
        scene = _scene(cell, rng, story, together)
        if scene is None:
            continue
        _blur(cell, scene, rng, noise)
        _open(cell, scene, rng)
        found = _answered(cell, scene, rng, story)
        if found is not None:
            return found
    return None


def _scene(cell: TrainingCell, rng: np.random.Generator, story: Story, together: range) -> _Scene | None:
    scene = _Scene({tag: Seen("normal") for tag in cell.watched})
    count = {"single": 1, "several": int(rng.choice(together)), "mixed": 1}.get(story, 0)
    if count > len(cell.faults):
        return None
    for n in rng.choice(len(cell.faults), size=count, replace=False):
        _break(cell.faults[int(n)], scene, rng)
    second = str(rng.choice(["unknown", "sensor"])) if story == "mixed" else story
    if second == "unknown" and not _deviate_unknown(cell, scene, rng):
        return None
    if second == "sensor":
        _doubt(cell, scene, rng)
    return scene


def _break(fault: Fault, scene: _Scene, rng: np.random.Generator) -> None:
    scene.faults.append(fault)
    for tag, buckets in fault.shows.items():
        scene.seen[tag] = Seen(_one(buckets, rng))
        _find(tag, scene, rng)
    free = [tag for tag in fault.side if scene.seen[tag].bucket == "normal"]
    if free and rng.random() < 0.4:
        for tag in rng.choice(free, size=min(len(free), int(rng.integers(1, 3))), replace=False).tolist():
            scene.seen[tag] = Seen(_one(DEVIATIONS, rng))
            _find(tag, scene, rng)


def _deviate_unknown(cell: TrainingCell, scene: _Scene, rng: np.random.Generator) -> bool:
    """Make something deviate that no fault of the cell would: often nearly as one of them."""
    broken = {fault.asset for fault in scene.faults}
    assets = {tag.name: tag.asset for tag in cell.repertoire.rules.cell.tags}
    free = [tag for tag in cell.watched if assets[tag] not in broken]
    if not free:
        return False
    asset = assets[str(rng.choice(free))]
    own = [tag for tag in free if assets[tag] == asset]
    likely = [tag for fault in cell.faults if fault.asset == asset for tag in fault.shows]
    for _ in range(int(rng.integers(1, 4))):
        tag = str(rng.choice(likely if likely and rng.random() < 0.6 else own))
        scene.seen[tag] = Seen(_one(DEVIATIONS, rng))
        _find(tag, scene, rng)
    return True


def _doubt(cell: TrainingCell, scene: _Scene, rng: np.random.Generator) -> None:
    """Let measurements fail: stuck, stale, or of bad quality. They may stand anywhere."""
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        tag = str(rng.choice(cell.watched))
        doubt = str(rng.choice(DOUBTS))
        bucket: Bucket = "unknown" if doubt == "quality" or rng.random() < 0.3 else _one(("normal", *DEVIATIONS), rng)
        scene.seen[tag] = Seen(bucket, doubted=True)
        scene.episodes[tag] = tuple(sorted({*scene.episodes.get(tag, ()), doubt}))


def _blur(cell: TrainingCell, scene: _Scene, rng: np.random.Generator, noise: float) -> None:
    """Let the evidence be less than what is."""
    for tag in cell.watched:
        if not rng.random() < noise:
            continue
        stands = scene.seen[tag]
        if stands.doubted:
            continue
        match str(rng.choice(["not_shown", "weaker", "absent", "deviates"])):
            case "not_shown":
                scene.seen[tag] = NOT_SEEN
                scene.episodes.pop(tag, None)
            case "weaker" if stands.bucket in ("very_high", "very_low"):
                scene.seen[tag] = Seen("high" if stands.bucket == "very_high" else "low")
            case "absent":
                scene.seen[tag] = Seen("normal")
            case "deviates" if stands.bucket == "normal":
                scene.seen[tag] = Seen(_one(DEVIATIONS, rng))
                _find(tag, scene, rng)


def _open(cell: TrainingCell, scene: _Scene, rng: np.random.Generator) -> None:
    """Let there be an episode at least, and now and then one of a tag that is normal again."""
    for _ in range(int(rng.choice([0, 1, 2], p=[0.85, 0.1, 0.05])) if scene.episodes else int(rng.integers(1, 4))):
        tag = str(rng.choice(cell.watched))
        if not scene.seen[tag].doubted:
            scene.episodes.setdefault(tag, (str(rng.choice(DETECTORS)),))


def _find(tag: str, scene: _Scene, rng: np.random.Generator) -> None:
    """Let a detector find it, most of the time."""
    if rng.random() < 0.9:
        scene.episodes[tag] = tuple(sorted({str(rng.choice(DETECTORS)) for _ in range(int(rng.integers(1, 3)))}))


def _answered(cell: TrainingCell, scene: _Scene, rng: np.random.Generator, story: Story) -> Incident | None:
    """Return the incident with its answer; None if the evidence tells another story than the faults, or too much."""
    request = _request(cell, scene, rng)
    evidence = canonical(request, cell.repertoire.rules.cell)
    seen = {tag: _as_seen(stands, tag, evidence) for tag, stands in scene.seen.items()}
    known = all_told(cell.faults, seen)
    if not all(fault in scene.faults for fault in known) or (story in ("single", "several") and not known):
        return None
    space = space_of(evidence, cell.repertoire)
    right = right_findings(cell, known, seen, evidence, request)
    if right is None or (story == "no_fault" and right) or (story == "unknown" and not right):
        return None
    if story == "several" and sum(f.diagnosis not in (UNKNOWN_CAUSE, SENSOR_FAULT) for f in right) < 2:
        return None
    missing = any(not possible(fault, cell, request.evidence.setpoints) for fault in known)
    return Incident(story, request, space, evidence, right, missing)


def _as_seen(stands: Seen, tag: str, evidence: CanonicalEvidence) -> Seen:
    """Return how a tag stands to who reads the evidence: what is not shown is not seen, but an episode has a side."""
    sign = next((sign for sign in evidence.signs if sign.tag == tag), None)
    if sign is None:
        return NOT_SEEN
    return Seen(sign.bucket, stands.doubted) if sign.bucket != "unknown" else replace(NOT_SEEN, doubted=stands.doubted)


def _request(cell: TrainingCell, scene: _Scene, rng: np.random.Generator) -> ReasonerRequest:
    tags = {tag.name: tag for tag in cell.repertoire.rules.cell.tags}
    order = [str(tag) for tag in rng.permutation(list(scene.episodes))]
    slots = [
        Slot("", tags[tag].asset, tag, detector, direction_of(scene.seen[tag].bucket))
        for tag in order
        for detector in scene.episodes[tag]
    ]
    return ReasonerRequest(
        request_id="request",
        incident_id="incident",
        tier="proposal",
        slots=tuple(Slot(f"E{n}", s.asset, s.tag, s.detector, s.direction) for n, s in enumerate(slots, start=1)),
        evidence=Evidence(
            row_at=0,
            tags=tuple(_shown(cell, scene, rng)),
            setpoints={t.name: _setpoint(cell, t.name, rng) for t in tags.values() if t.role == "setpoint"},
            state=str(rng.choice(STATES)),
        ),
        deadline_s=10.0,
    )


def _shown(cell: TrainingCell, scene: _Scene, rng: np.random.Generator) -> list[TagEvidence]:
    """Return the tags by deviation, as many as evidence has room for."""
    assets = {tag.name: tag.asset for tag in cell.repertoire.rules.cell.tags}
    telling = {tag for fault in cell.faults for tag in (*fault.shows, *fault.normal)}
    known = [tag for tag in cell.watched if scene.seen[tag].bucket != "unknown" or rng.random() < 0.5]
    ranked = sorted(known, key=lambda tag: (scene.seen[tag].bucket == "normal", tag not in telling))[:SHOWN_MAX]
    return [TagEvidence(tag, assets[tag], None, None, None, scene.seen[tag].bucket) for tag in ranked]


def _setpoint(cell: TrainingCell, tag: str, rng: np.random.Generator) -> float:
    """Draw a present set-point: anywhere in its range, now and then where the playbook wants it already."""
    for action in cell.repertoire.rules.catalogue.actions:
        for argument in action.args:
            if argument.tag == tag:
                wanted = [
                    p.value for p in cell.repertoire.preferred if (p.action, p.argument) == (action.name, argument.name)
                ]
                if wanted and rng.random() < 0.08:
                    return float(rng.choice(wanted))
                return float(round(rng.uniform(argument.min, argument.max), 3))
    return 0.0


def _one(buckets: Sequence[Bucket], rng: np.random.Generator) -> Bucket:
    return buckets[int(rng.integers(len(buckets)))]
