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
    buckets: tuple[Bucket, ...] = Field(min_length=1)


class RuleAction(Strict):
    """An action with the values that it is proposed with."""

    name: str
    args: dict[str, float] = {}


class Rule(Strict):
    """If all signs hold, this diagnosis."""

    name: str
    tier: Literal["reflex", "proposal"]
    asset: str
    diagnosis: str
    when: tuple[Sign, ...] = Field(min_length=1)
    actions: tuple[RuleAction, ...] = Field(default=(), max_length=4)


class Playbook(Strict):
    """The whole of `playbook.toml`."""

    rules: tuple[Rule, ...]
