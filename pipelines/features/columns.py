"""The columns of a group: what its tags are, as arrays, in the order of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

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
    hold_us: Counts
    measured: Mask
    """Not derived: samples come for it."""
    watched: Mask
    """Process tags that the statistical detectors look at."""
    derived: tuple[tuple[int, int, int], ...]
    """(slot, minuend, subtrahend), in an order in which they can be computed."""

    def __len__(self) -> int:
        return len(self.tags)

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
            hold_us=np.array([int(tag.hold_s * 1e6) for tag in tags], dtype=np.int64),
            measured=np.array([tag.minus is None for tag in tags], dtype=np.bool_),
            watched=np.array([tag.role == "process" and tag.watch for tag in tags], dtype=np.bool_),
            derived=_derived(tags, names),
        )


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
