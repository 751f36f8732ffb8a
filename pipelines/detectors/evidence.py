"""The evidence of an episode: how all watched tags of the cell stand at a row, worst first, within 1.5 kB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from pipelines.detectors.watch import Watch
from schemas.evidence import Evidence, TagEvidence
from schemas.plant import Tag
from schemas.playbook import Bucket

EVIDENCE_BYTES_MAX: Final = 1500
TAGS_MAX: Final = 16
"""More tags than these never fit."""
FAR, VERY_FAR = 6.0, 20.0
"""Robust standard deviations at which a bucket begins."""

Ranked = tuple[float, TagEvidence]


def build(
    watches: Sequence[Watch], subject: tuple[int, int], setpoints: dict[str, float], *, row_at: int, state: str
) -> Evidence:
    """Return the evidence at a row.

    Args:
        watches: The groups of the cell with their last rows.
        subject: (group, slot) of the tag in question; it is always among the tags.
        setpoints: Last good value of each set-point tag; kept exact, since `From` of a command is made of it.
        row_at: End of the row.
        state: PackML state at that time.
    """
    ranked = [entry for watch in watches for entry in _worst(watch)]
    ranked.sort(key=lambda entry: -entry[0])
    tags = [tag for _, tag in ranked]
    watch, slot = watches[subject[0]], subject[1]
    _, own = _describe(watch, slot, distrusted=bool(watch.distrusted()[slot]))
    if own not in tags:
        tags.append(own)
    for n in range(min(len(tags), TAGS_MAX), 0, -1):
        shown = tags[:n] if own in tags[:n] else [*tags[: n - 1], own]
        evidence = Evidence(row_at=row_at, tags=tuple(shown), setpoints=setpoints, state=state)
        if len(msgspec.json.encode(evidence)) <= EVIDENCE_BYTES_MAX:
            return evidence
    # Set-points alone are too many: the tag in question matters most.
    return Evidence(row_at=row_at, tags=(own,), setpoints={}, state=state)


def _worst(watch: Watch) -> list[Ranked]:
    """Describe the watched tags of a group, at most `TAGS_MAX`, by deviation."""
    slots = np.flatnonzero(watch.columns.watched)
    distrusted = watch.distrusted()
    if len(slots) > TAGS_MAX:
        deviation = np.where(distrusted[slots], -1.0, np.nan_to_num(np.abs(watch.z[slots]), nan=-1.0))
        slots = slots[np.argsort(-deviation, kind="stable")[:TAGS_MAX]]
    return [_describe(watch, slot, distrusted=bool(distrusted[slot])) for slot in slots.tolist()]


def _describe(watch: Watch, slot: int, *, distrusted: bool) -> Ranked:
    """Return a tag's rank, higher is worse, and its evidence. Bad data is in no bucket: it tells nothing."""
    tag = watch.columns.tags[slot]
    value = float(watch.row.values[slot]) if watch.row is not None else float("nan")
    z = float("nan") if distrusted else float(watch.z[slot])
    known = bool(watch.baseline.known[slot])
    evidence = TagEvidence(
        tag=tag.name,
        asset=tag.asset,
        value=rounded_6(value) if value == value else None,
        baseline=rounded_6(float(watch.baseline.centre[slot])) if known else None,
        z=rounded_6(z) if z == z else None,
        bucket="unknown" if distrusted else _bucket(tag, value, z),
    )
    if z == z:
        return abs(z), evidence
    return (float("inf") if evidence.bucket != "unknown" else -1.0), evidence


def _bucket(tag: Tag, value: float, z: float) -> Bucket:
    if z == z:
        if abs(z) < FAR:
            return "normal"
        if abs(z) < VERY_FAR:
            return "high" if z > 0 else "low"
        return "very_high" if z > 0 else "very_low"
    if tag.limits is not None:
        if tag.limits.high is not None and value > tag.limits.high:
            return "high"
        if tag.limits.low is not None and value < tag.limits.low:
            return "low"
    return "unknown"


def rounded_6(value: float) -> float:
    """Round to 6 significant digits.

    >>> rounded_6(1234.56789), rounded_6(0.000123456789)
    (1234.57, 0.000123457)
    """
    return float(f"{value:.6g}")
