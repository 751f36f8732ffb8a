"""What a table of words holds for one language. Tables are data: the reader knows no word of any language.

A new language is one module with a `Words` and one line in `agent.asking.languages`. Words are written in lower case,
without punctuation; a phrase is its words with one space between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Way = Literal["down", "up", "none"]


@dataclass(frozen=True, slots=True)
class Verb:
    """A word for changing a set-point."""

    way: Way = "none"
    quantities: tuple[str, ...] = ()
    """Words of which one must be among those of the action: to slow is about a speed. Empty: it is about anything."""
    factor: float | None = None
    """Of the present value: to halve needs no number."""


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    fillers: frozenset[str]
    """Say nothing, where no name has them: in a name every word counts."""
    small: frozenset[str]
    """Articles and the like that may end a name: they tell something within it only, and are no fillers."""
    joints: frozenset[str]
    """Stand between two wishes: and, then."""
    verbs: Mapping[str, Verb]
    """By phrase."""
    doing: frozenset[str]
    """Stand before the name of an action without a value: run the pad cleaning."""
    ways: Mapping[str, Way]
    """Stand beside a verb: bring it down."""
    to: frozenset[str]
    by: frozenset[str]
    since: frozenset[str]
    """from 100 to 60: the first is held against the present value."""
    of_present: frozenset[str]
    """A share of the present value."""
    fractions: Mapping[str, float]
    """By phrase: a half."""
    numerals: frozenset[str]
    """Numbers in words: they are recognised as such, and to be written in digits."""
    units: Mapping[str, str]
    """By phrase: the unit as catalogues write it. A unit's own text needs no entry."""
    points: frozenset[str]
    """After a number: percentage points, and not a share of the present value."""
    denying: frozenset[str]
    """Deny, or take back."""
    asking: frozenset[str]
    """Begin a question."""
    conditional: frozenset[str]
    """Make it depend on something, or on a time."""
    undecided: frozenset[str]
    """Leave it open."""
