"""Canonical evidence: what a model is told about an incident, and all that it is told.

Equipment worst first, its tags worst first, deviations in buckets, names replaced by slots (`A1`, `S1`). Two incidents
that look alike are in the same order here, whatever the tags are called. Nothing in it is text of the plant:
identifiers are those that `plant.toml` declares, and only if they are of a safe alphabet; everything else is a word of
a closed set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from schemas.line import PackMLState
from schemas.plans import ReasonerRequest, Slot, Tier
from schemas.plant import Cell, Tag
from schemas.playbook import Bucket

SIGNS_MAX: Final = 24
"""Tags shown at most; in an alarm flood the worst ones."""
SAFE: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
"""Identifiers that may be shown to a model; another one is only known by its slot."""

Kind = Literal[
    "count", "current", "force", "flow", "frequency", "length", "level", "other", "power", "pressure", "share", "speed",
    "temperature", "time", "torque", "vibration", "voltage",
]  # fmt: skip
"""What a tag measures."""

KINDS: Final[Mapping[str, Kind]] = {
    "1": "count", "A": "current", "mA": "current", "N": "force", "kN": "force", "l/min": "flow", "m3/h": "flow",
    "Hz": "frequency", "mm": "length", "um": "length", "m": "length", "l": "level", "W": "power", "kW": "power",
    "Pa": "pressure", "kPa": "pressure", "bar": "pressure", "mbar": "pressure", "%": "share", "mm/s": "speed",
    "m/s": "speed", "rpm": "speed", "1/min": "speed", "degC": "temperature", "°C": "temperature", "K": "temperature",
    "s": "time", "ms": "time", "min": "time", "h": "time", "N m": "torque", "Nm": "torque", "N.m": "torque",
    "g": "vibration", "m/s2": "vibration", "V": "voltage", "mV": "voltage",
}  # fmt: skip
"""By unit. A unit is text of the plant: one that is not listed here measures `other`."""

SEVERITY: Final[Mapping[Bucket, int]] = {
    "very_high": 3, "very_low": 3, "high": 2, "low": 2, "unknown": 1, "normal": 0,
}  # fmt: skip
"""For the order only."""


@dataclass(frozen=True, slots=True)
class Sign:
    """How one tag stands."""

    slot: str
    """`S1`, `S2`, … through the whole incident, in the order shown."""
    tag: str
    asset: str
    kind: Kind
    bucket: Bucket
    detectors: tuple[str, ...]
    """That found it, sorted; empty: it is shown for what it says about the others."""
    direction: Literal["up", "down", "none"]
    """Of its episodes; none if they disagree."""
    evidence: str
    """The request's slot of its first episode; empty without one."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """One asset and its tags, worst first."""

    slot: str
    """`A1`, `A2`, … worst first."""
    asset: str
    signs: tuple[Sign, ...]


@dataclass(frozen=True, slots=True)
class CanonicalEvidence:
    """One incident as a model sees it."""

    tier: Tier
    state: str
    """A name of `PackMLState`."""
    equipment: tuple[Equipment, ...]
    setpoints: Mapping[str, float]
    """Present value by tag, finite, those of this cell only. They bound what may be asked for."""

    @property
    def signs(self) -> tuple[Sign, ...]:
        """All tags, in the order shown."""
        return tuple(sign for each in self.equipment for sign in each.signs)

    @property
    def targets(self) -> tuple[Sign, ...]:
        """The tags that a finding can be about: those with an episode."""
        return tuple(sign for sign in self.signs if sign.evidence)

    def slot_of(self, tag: str) -> str:
        """Return the slot of a tag, or an empty text: it is not shown."""
        return next((sign.slot for sign in self.signs if sign.tag == tag), "")


def canonical(request: ReasonerRequest, cell: Cell) -> CanonicalEvidence:
    """Return what a model is told about a question. Tags that `cell` does not declare are left out."""
    seen = {tag.tag: tag.bucket for tag in request.evidence.tags}
    episodes: dict[str, list[Slot]] = {}
    for slot in request.slots:
        episodes.setdefault(slot.tag, []).append(slot)
    shown = [tag for tag in cell.tags if tag.name in seen or tag.name in episodes]
    # Sorted is stable: among equals the order of plant.toml decides, and no name does.
    shown = sorted(shown, key=lambda tag: _rank(tag, seen, episodes))[:SIGNS_MAX]
    assets = list(dict.fromkeys(tag.asset for tag in shown))
    ordered = [tag for asset in assets for tag in shown if tag.asset == asset]
    signs = [_sign(f"S{n}", tag, seen, episodes) for n, tag in enumerate(ordered, start=1)]
    return CanonicalEvidence(
        tier=request.tier,
        state=request.evidence.state if request.evidence.state in PackMLState.__members__ else "UNDEFINED",
        equipment=tuple(
            Equipment(f"A{n}", asset, tuple(sign for sign in signs if sign.asset == asset))
            for n, asset in enumerate(assets, start=1)
        ),
        setpoints=_setpoints(request, cell),
    )


def safe(name: str) -> str:
    """Return an identifier that may be shown to a model, or an empty text.

    >>> safe("part_slip_mm"), safe("<|im_end|>")
    ('part_slip_mm', '')
    """
    return name if SAFE.fullmatch(name) else ""


def _setpoints(request: ReasonerRequest, cell: Cell) -> dict[str, float]:
    values = request.evidence.setpoints
    return {tag.name: values[tag.name] for tag in cell.tags if math.isfinite(values.get(tag.name, math.nan))}


def _rank(tag: Tag, seen: Mapping[str, Bucket], episodes: Mapping[str, list[Slot]]) -> tuple[bool, int]:
    return (tag.name not in episodes, -SEVERITY[seen.get(tag.name, "unknown")])


def _sign(slot: str, tag: Tag, seen: Mapping[str, Bucket], episodes: Mapping[str, list[Slot]]) -> Sign:
    own = episodes.get(tag.name, [])
    return Sign(
        slot=slot,
        tag=tag.name,
        asset=tag.asset,
        kind=KINDS.get(tag.unit, "other"),
        bucket=seen.get(tag.name, "unknown"),
        detectors=tuple(sorted({safe(episode.detector) or "other" for episode in own})),
        direction=own[0].direction if len({episode.direction for episode in own}) == 1 else "none",
        evidence=own[0].name if own else "",
    )
