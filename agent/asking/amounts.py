"""How much: from what was said and the present value to the one value that is meant, or to why there is none. Pure.

A value is in the sentence or follows from a number in it and the present value; where a number can mean two values that
differ, both are named and none is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.asking.words import Way
from agent.reasoning.repertoire import rounded_6
from schemas.catalogue import Argument

SHARE = "%"


@dataclass(frozen=True, slots=True)
class Amount:
    """A number or a fraction with what stood beside it."""

    value: float
    preposition: str = ""
    """`to`, `by`, `from`; empty: none."""
    unit: str = ""
    """As catalogues write it; empty: none was said."""
    fraction: bool = False
    of_present: bool = False
    points: bool = False


@dataclass(frozen=True, slots=True)
class Unclear:
    """No value, and why."""

    reason: str
    candidates: tuple[str, ...] = ()


def unit_fits(amount: Amount, argument: Argument) -> bool:
    """Whether a number can be about an argument by its unit; a share can be a change of anything.

    Points are those of a percentage, and only a share can be one of the present value.
    """
    if amount.points and (amount.of_present or argument.unit != SHARE):
        return False
    if amount.of_present and not amount.fraction and amount.unit != SHARE:
        return False
    if amount.fraction or not amount.unit or amount.unit == argument.unit:
        return True
    return amount.unit == SHARE and (amount.preposition == "by" or amount.of_present)


def value_of(amount: Amount, way: Way, argument: Argument, present: float | None) -> float | Unclear:
    """Return the value that is meant, in the argument's unit; one that is computed to 6 significant digits."""
    if not amount.fraction and rounded_6(amount.value) != amount.value:
        return Unclear("a number has at most 6 digits that count")
    if amount.value < 0 and amount.preposition == "by":
        return Unclear("a change is said without a sign: up or down is in the verb")
    meanings = _meanings(amount, way, argument, present)
    if isinstance(meanings, Unclear):
        return meanings
    values = sorted({rounded_6(value) for value in meanings})
    left = [value for value in values if _goes(value, way, present)]
    if not left:
        asked = " or ".join(f"{value:g}" for value in values)
        return Unclear(f"{asked} {argument.unit} is not {way} from the present {_text(present)} {argument.unit}")
    if len(left) > 1:
        return Unclear("it can mean more than one value", tuple(f"{v:g} {argument.unit}" for v in left))
    if present is not None and abs(left[0] - present) <= argument.tolerance:
        return Unclear(f"{argument.tag} is {present:g} {argument.unit} already")
    return left[0]


def _meanings(amount: Amount, way: Way, argument: Argument, present: float | None) -> Sequence[float] | Unclear:
    if amount.preposition == "by" and way == "none":
        return Unclear("say whether up or down")
    to, by = amount.preposition == "to", amount.preposition == "by"
    meanings: list[float | None] = []
    if to or not by:
        meanings += _to(amount, argument, present)
    if by or (not to and way != "none"):
        meanings += _by(amount, -1 if way == "down" else 1, argument, present)
    if any(value is None for value in meanings):
        return Unclear(f"the present value of {argument.tag} is not known")
    return [value for value in meanings if value is not None]


def _to(amount: Amount, argument: Argument, present: float | None) -> list[float | None]:
    """All that `to` this amount can mean; None needs the present value."""
    if amount.fraction:
        of_present = None if present is None else present * amount.value
        return [of_present, 100 * amount.value] if argument.unit == SHARE and not amount.of_present else [of_present]
    if amount.of_present:
        return [None if present is None else present * amount.value / 100]
    return [amount.value]


def _by(amount: Amount, sign: int, argument: Argument, present: float | None) -> list[float | None]:
    """All that `by` this amount can mean; None needs the present value."""
    if present is None:
        return [None]
    if amount.fraction:
        return [present * (1 + sign * amount.value)]
    share, difference = present * (1 + sign * amount.value / 100), present + sign * amount.value
    if amount.points or amount.unit != SHARE:
        return [difference]
    if amount.of_present or argument.unit != SHARE:
        return [share]
    return [share, difference]


def _goes(value: float, way: Way, present: float | None) -> bool:
    """Whether a value lies where the verb says; the present value itself does, and is told as such."""
    if present is None or way == "none":
        return True
    return value <= present if way == "down" else value >= present


def _text(present: float | None) -> str:
    return "?" if present is None else f"{present:g}"
