"""The columns of a group: what its tags are, as arrays, in the order of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipelines.features.packed import Counts, Floats, Mask
from schemas.errors import ConfigError
from schemas.plant import Cell, Group, Tag


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One group's tags. Arrays have shape `(n,)`; a *slot* is an index into them."""

    group: Group
    tags: tuple[Tag, ...]
    names: tuple[str, ...]
    low: Floats
    high: Floats
    """The range outside of which a value is not believed."""
    limit_low: Floats
    limit_high: Floats
    """Hard limits of the process; infinite where there is none."""
    settle_us: Counts
    """How long after a stop the tag is not yet itself again."""
    hold_us: Counts
    measured: Mask
    """Not derived: samples come for it."""
    watched: Mask
    """Process tags that the statistical detectors look at."""
    derived: tuple[tuple[int, int, int], ...]
    """(slot, minuend, subtrahend), in an order in which they can be computed."""

    def __len__(self) -> int:
        return len(self.tags)

    def beyond_limits(self, values: Floats) -> Mask:
        """Tell which values break a hard limit, shape `(n,)`. NaN breaks none."""
        beyond: Mask = (values < self.limit_low) | (values > self.limit_high)
        return beyond

    @classmethod
    def of(cls, cell: Cell, group: Group) -> Columns:
        """Return the columns of one group.

        Raises:
            ConfigError: a derived tag takes from another group or from a derived tag that is declared after it.
        """
        tags = tuple(tag for tag in cell.tags if tag.group == group.id)
        names = tuple(tag.name for tag in tags)
        return cls(
            group=group,
            tags=tags,
            names=names,
            low=np.array([tag.range.low for tag in tags], dtype=np.float64),
            high=np.array([tag.range.high for tag in tags], dtype=np.float64),
            limit_low=np.array([_limit(tag, "low", -np.inf) for tag in tags], dtype=np.float64),
            limit_high=np.array([_limit(tag, "high", np.inf) for tag in tags], dtype=np.float64),
            settle_us=np.array([int(tag.settle_s * 1e6) for tag in tags], dtype=np.int64),
            hold_us=np.array([int(tag.hold_s * 1e6) for tag in tags], dtype=np.int64),
            measured=np.array([tag.minus is None for tag in tags], dtype=np.bool_),
            watched=np.array([tag.role == "process" and tag.watch for tag in tags], dtype=np.bool_),
            derived=_derived(tags, names),
        )


def _limit(tag: Tag, side: Literal["low", "high"], none: float) -> float:
    limit = getattr(tag.limits, side) if tag.limits is not None else None
    return none if limit is None else float(limit)


def _derived(tags: tuple[Tag, ...], names: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    known = {tag.name for tag in tags if tag.minus is None}
    pairs = []
    for slot, tag in enumerate(tags):
        if tag.minus is None:
            continue
        if not known.issuperset(tag.minus):
            raise ConfigError(
                "plant.toml",
                f"tag {tag.name!r}: minus",
                f"{tag.minus!r} are not both tags of group {tag.group!r} declared before it",
                "Move them into one group, sources first",
            )
        known.add(tag.name)
        pairs.append((slot, names.index(tag.minus[0]), names.index(tag.minus[1])))
    return tuple(pairs)
