"""`playbook.toml`: rules of the playbook reasoner: signature -> diagnosis and actions. First match of an asset wins."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.plant import Strict

Bucket = Literal["very_low", "low", "normal", "high", "very_high", "unknown"]
"""Deviation from the learnt normal: beyond 6 and beyond 20 robust standard deviations; unknown without a baseline."""


class Sign(Strict):
    """A tag and the buckets it may be in."""

    tag: str
    """A tag of the cell."""
    buckets: tuple[Bucket, ...] = Field(min_length=1)
    """Any of these counts."""


class RuleAction(Strict):
    """An action with the values that it is proposed with."""

    name: str
    """A name of the catalogue."""
    args: dict[str, float] = {}
    """Exactly its arguments, in its units."""


class Rule(Strict):
    """If all signs hold, this diagnosis."""

    name: str
    """For people."""
    tier: Literal["reflex", "proposal"]
    """reflex: at once, before the proposal; proposal: what should mend it."""
    asset: str
    """The asset whose episode it explains; only its actions may follow."""
    diagnosis: str
    """Shown to people: 1 to 200 printable ASCII characters."""
    when: tuple[Sign, ...] = Field(min_length=1)
    """All must hold, in the evidence of the incident."""
    actions: tuple[RuleAction, ...] = Field(default=(), max_length=4)
    """Done in this order; none is legal."""


class Playbook(Strict):
    """The whole of `playbook.toml`."""

    rules: tuple[Rule, ...]
    """In the order in which they are tried."""
