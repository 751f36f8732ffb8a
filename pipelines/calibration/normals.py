"""Which rows of a historian are normal, and what each tag is there: robustly, and honest about what it cannot know.

Rows count if every tag has a good value within its hard limits. Of these, stretches far from the rest are set aside as
suspicious; what people called true alarms is out, what they called false ones is in. False alarms to be expected are
counted on stretches that were left out of the learning, each quarter of the time in turn: rows of a plant hang
together, so drawing rows at random for this would promise too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.calibration.historian import Rows
from pipelines.calibration.labels import Label
from pipelines.detectors.baseline import Baseline
from pipelines.detectors.calibration import ROWS_MIN, GroupNormal
from pipelines.features.columns import Columns
from pipelines.features.packed import Counts, Floats, Mask
from pipelines.protocols.segments import runs
from schemas.errors import RecordingError
from schemas.plant import Cell

LIMIT_Z: Final = 6.0
LIMIT_ROWS: Final = 3
"""An excursion is so far from normal for so many rows in a row: as the shift detector counts."""
MARGIN: Final = 1.1
"""A raised limit lies this much above the false alarm that raised it, and as far below a true one."""
GOOD_PART: Final = 0.5
"""A tag with fewer good rows is left to warm up by itself."""
PASSES: Final = 3
"""Of setting suspicious stretches aside: what is left has a narrower normal, in which others may stand out."""
FOLDS: Final = 4
BLOCK_ROWS_MAX: Final = 4000
STRETCH_ROWS: Final = 250
"""Longer historians are thinned to stretches of this length, spread over all of the time, so that what follows one
another stays so."""
DAY_US: Final = 86_400_000_000
LAGS_MAX: Final = 2000
CORRELATION_MIN: Final = 0.05


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows in which a tag was far from its normal."""

    from_at: int
    until_at: int
    """Microseconds since 1970 UTC."""
    peak_z: float


@dataclass(frozen=True, slots=True)
class TagNormal:
    """What one tag is normally."""

    tag: str
    unit: str
    used: int
    """Rows of the normal."""
    rejected: dict[str, int]
    """Rows that are not in it, by reason. A row may be missed for several."""
    centre: float
    spread: float
    autocorrelation_s: float
    """How long the tag remembers itself: rows closer than this say much the same."""
    false_per_day: float
    """Excursions on stretches that were left out of the learning, with the limit as it is now."""
    days: float
    """Of rows on which that was counted: with 0 in d days, up to 3 / d a day are well possible."""
    suspicious: tuple[Stretch, ...]
    widen: float
    """How much the limit was raised because of false alarms; 1: not."""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Normal:
    """What came of one group."""

    normal: GroupNormal
    tags: tuple[TagNormal, ...]
    left_out: tuple[str, ...]
    """Tags with too few good rows: they warm up."""
    rows: int


def find_normal(rows: Rows, cell: Cell, labels: Sequence[Label] = ()) -> Normal | None:
    """Return the normal of a group; None if it has no tag that is watched.

    Raises:
        RecordingError: too few rows are normal.
    """
    columns = Columns.of(cell, next(group for group in cell.groups if group.id == rows.group))
    good = np.isfinite(rows.values) & ~columns.beyond_limits(rows.values)
    enough = good.mean(axis=0) >= GOOD_PART
    slots = np.flatnonzero(columns.watched & enough)
    left_out = tuple(columns.names[slot] for slot in np.flatnonzero(columns.watched & ~enough).tolist())
    if not len(slots):
        return None
    whole: Mask = np.all(good[:, slots], axis=1)
    said = {alarm: _said(labels, alarm, rows, slots) for alarm in ("false", "true")}
    whole = whole & ~np.any(said["true"], axis=1)
    used, suspicious = _normal_rows(rows.values[:, slots], whole, said["false"], columns, slots)
    if np.count_nonzero(used) < ROWS_MIN:
        problem = f"only {int(used.sum())} of {len(used)} rows are normal"
        raise RecordingError(
            rows.group, "rows", problem, f"Give a time of normal operation, of {ROWS_MIN} rows or more"
        )
    z = _z(rows.values[:, slots], rows.values[np.ix_(np.flatnonzero(used), slots)], columns, slots)
    said["kept"] = _protected(labels, rows, slots, z)
    found = [
        _tag(columns, int(slot), k, rows, good[:, slot], used, suspicious[:, k], said) for k, slot in enumerate(slots)
    ]
    names = tuple(columns.names[slot] for slot in slots.tolist())
    units = tuple(columns.tags[slot].unit for slot in slots.tolist())
    widen = np.array([each.widen for each in found])
    block = rows.values[np.ix_(_thinned(np.flatnonzero(used)), slots)]
    return Normal(GroupNormal(rows.group, names, units, block, widen), tuple(found), left_out, len(rows.end_at))


def _said(labels: Iterable[Label], alarm: str, rows: Rows, slots: Counts) -> Mask:
    """Return which rows of which tags people called so, shape `(rows, tags)`."""
    mask = np.zeros((len(rows.end_at), len(slots)), dtype=np.bool_)
    for label in labels:
        if label.alarm != alarm:
            continue
        when = (label.from_at <= rows.end_at) & (rows.end_at <= label.until_at)
        which = np.array([not label.tag or rows.names[slot] == label.tag for slot in slots.tolist()])
        mask |= when[:, None] & which
    return mask


def _protected(labels: Iterable[Label], rows: Rows, slots: Counts, z: Floats) -> Mask:
    """Return the rows that a tag must go on to raise an alarm in, shape `(rows, tags)`.

    A true alarm of no tag in particular needs the tag that shows it most, not each of them.
    """
    mask = np.zeros(z.shape, dtype=np.bool_)
    for label in labels:
        if label.alarm == "false":
            continue
        one = _said([label], "true", rows, slots)
        if not label.tag:
            levels = [_level(z[:, k], one[:, k]) for k in range(len(slots))]
            one[:, np.arange(len(slots)) != int(np.argmax(levels))] = False
        mask |= one
    return mask


def _normal_rows(values: Floats, whole: Mask, false: Mask, columns: Columns, slots: Counts) -> tuple[Mask, Mask]:
    """Return the rows of the normal, and by tag those that are far from it; false alarms are never set aside."""
    used = whole
    suspicious = np.zeros_like(false)
    for _ in range(PASSES):
        if np.count_nonzero(used) < ROWS_MIN:
            break
        suspicious = _excursions(_z(values, values[used], columns, slots)) & whole[:, None]
        used = whole & ~(suspicious & ~false).any(axis=1)
    return used, suspicious


def _z(values: Floats, normal: Floats, columns: Columns, slots: Counts) -> Floats:
    baseline = Baseline(columns)
    baseline.learn(slots, normal)
    z: Floats = np.abs((values - baseline.centre[slots]) / baseline.spread[slots])
    return z


def _excursions(z: Floats, limit_z: float = LIMIT_Z) -> Mask:
    """Return rows beyond the limit that have as many beside them as open an episode, shape `(rows, tags)`."""
    mask = np.zeros(z.shape, dtype=np.bool_)
    for k in range(z.shape[1]):
        for first, end in runs(z[:, k] > limit_z):
            if end - first >= LIMIT_ROWS:
                mask[first:end, k] = True
    return mask


def _thinned(rows: Counts) -> Counts:
    """Return at most `BLOCK_ROWS_MAX` of these rows, in stretches spread over all of them."""
    if len(rows) <= BLOCK_ROWS_MAX:
        return rows
    stretches = BLOCK_ROWS_MAX // STRETCH_ROWS
    begins = np.linspace(0, len(rows) - STRETCH_ROWS, stretches).astype(np.int64)
    return np.concatenate([rows[begin : begin + STRETCH_ROWS] for begin in begins.tolist()])


# ---------------------------------------------------------------------- one tag


def _tag(
    columns: Columns, slot: int, place: int, rows: Rows, good: Mask, used: Mask, suspicious: Mask, said: dict[str, Mask]
) -> TagNormal:
    tag, values, one = columns.tags[slot], rows.values[:, [slot]], np.array([slot])
    baseline = Baseline(columns)
    baseline.learn(one, values[used])
    z = np.abs((values[:, 0] - baseline.centre[slot]) / baseline.spread[slot])
    widen, remark = _widening(z, said["false"][:, place], said["kept"][:, place])
    step_us = float(np.median(np.diff(rows.end_at))) if len(rows.end_at) > 1 else 0.0
    days = np.count_nonzero(used) * step_us / DAY_US
    false = _held_out(values, used, columns, one, LIMIT_Z * widen)
    called = said["true"][:, place] | said["false"][:, place]
    return TagNormal(
        tag=tag.name,
        unit=tag.unit,
        used=int(np.count_nonzero(used)),
        rejected={
            "no good value, or beyond a hard limit": int(np.count_nonzero(~good)),
            "suspicious": int(np.count_nonzero(suspicious & ~said["false"][:, place])),
            "a true alarm, people say": int(np.count_nonzero(said["true"][:, place])),
            "other tags": int(np.count_nonzero(good & ~used & ~suspicious & ~said["true"][:, place])),
        },
        centre=float(baseline.centre[slot]),
        spread=float(baseline.spread[slot]) * widen,
        autocorrelation_s=_autocorrelation(values[used, 0]) * step_us / 1e6,
        false_per_day=false / days if days else 0.0,
        days=days,
        suspicious=tuple(
            Stretch(int(rows.end_at[first]), int(rows.end_at[end - 1]), float(z[first:end].max()))
            for first, end in runs(suspicious & ~called)
        ),
        widen=widen,
        remark=remark,
    )


def _widening(z: Floats, false: Mask, true: Mask) -> tuple[float, str]:
    """Return by how much to raise the limit so that false alarms end and true ones stay, and what to say of it."""
    needed = _level(z, false) * MARGIN / LIMIT_Z
    if needed <= 1:
        return 1.0, ""
    allowed = min((_level(z, one) for one in _each(true)), default=np.inf) / MARGIN / LIMIT_Z
    if needed <= allowed:
        return needed, f"limit raised {needed:.2f}-fold: alarms there were called false"
    if allowed > 1:
        return allowed, f"limit raised {allowed:.2f}-fold only: beyond that a true alarm would be lost"
    return 1.0, "limit not raised: an alarm that was called true is no stronger than the false one"


def _each(mask: Mask) -> list[Mask]:
    each = []
    for first, end in runs(mask):
        one = np.zeros_like(mask)
        one[first:end] = True
        each.append(one)
    return each


def _level(z: Floats, mask: Mask) -> float:
    """Return the highest limit that these rows would still be an excursion of; 0 for no rows."""
    lowest = [
        float(np.nanmin(z[row : row + LIMIT_ROWS]))
        for first, end in runs(mask & np.isfinite(z))
        for row in range(first, end - LIMIT_ROWS + 1)
    ]
    return max(lowest, default=0.0)


def _held_out(values: Floats, used: Mask, columns: Columns, slot: Counts, limit_z: float) -> int:
    """Return how many excursions the used rows have when each quarter is judged by the other three."""
    rows, count = np.flatnonzero(used), 0
    for out in np.array_split(rows, FOLDS):
        rest = rows[(rows < out[0]) | (rows > out[-1])] if len(out) else rows[:0]
        if len(rest) >= ROWS_MIN:
            z = _z(values[out], values[rest], columns, slot)
            count += len(runs(_excursions(z, limit_z)[:, 0]))
    return count


def _autocorrelation(values: Floats) -> float:
    """Return the integrated autocorrelation time in rows, at least 1: 1 + 2 Σ ρ(k) until ρ is small.

    Source: A. Sokal, Monte Carlo Methods in Statistical Mechanics, 1997, section 3.
    """
    centred = values - values.mean()
    power = float((centred * centred).sum())
    if power == 0:
        return 1.0
    time = 1.0
    for lag in range(1, min(LAGS_MAX, len(values) // 2)):
        correlation = float((centred[lag:] * centred[:-lag]).sum()) / power
        if correlation < CORRELATION_MIN:
            break
        time += 2 * correlation
    return time
