"""Choice by choice: the model is asked only where the incident and the catalogue leave a choice; code writes the rest.

Every answer is a plan by construction, and each choice has its probability: that with which the model, allowed only
the options' texts, would write this one. Where all options that are still possible go on alike nothing is decided, so
that a long text is not less likely for being long. Source of the idea: SayCan (Ahn et al., 2022), which ranks skills by
the model's own likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.reasoning.phrasing import Phrasing
from agent.reasoning.space import ChoicePoint, Draft, PlanSpace
from schemas.plans import ChoiceMade


class Scoring(Protocol):
    """One text in the making, as a model reads it."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a piece of text, none added."""

    def score(self, continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return ln P of each token of each continuation, given everything so far and the tokens before it.

        Args:
            continuations: Tokens that may come next; at least one each.

        Raises:
            ConnectionFault: the time is up, or the model failed.
        """

    def advance(self, tokens: Sequence[int]) -> None:
        """Take these tokens as said. Costs nothing until the next `score`."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A whole answer."""

    draft: Draft
    said: str
    """The answer as the model would have written it."""
    choices: tuple[ChoiceMade, ...]
    """Where there was one; what left no choice is not among them."""

    @property
    def confidence(self) -> float:
        """The probability of the least certain choice, 0..1; 1 if there was nothing to choose."""
        return min((choice.probability for choice in self.choices), default=1.0)


def decide(space: PlanSpace, phrasing: Phrasing, scoring: Scoring) -> Decided:
    """Take the likeliest option at every choice point, from a text that has been said up to the answer.

    Raises:
        ConnectionFault: from the model.
    """
    draft, said, choices = Draft(space), phrasing.opening, []
    scoring.advance(scoring.encode(phrasing.opening))
    while (point := draft.point()) is not None:
        pieces = [phrasing.piece(draft, point, option) for option in point.options]
        tokens = [scoring.encode(piece) for piece in pieces]
        best = 0
        if len(pieces) > 1:
            heads = distinct(tokens)
            made, best = choose(point, probabilities(heads, scoring.score(heads)))
            choices.append(made)
        scoring.advance(tokens[best])
        said += pieces[best]
        draft = draft.take(point.options[best])
    return Decided(draft, said.strip(), tuple(choices))


def choose(point: ChoicePoint, shares: Sequence[float]) -> tuple[ChoiceMade, int]:
    """Return the likeliest option with its probability, and its place. Of equals the first.

    Args:
        point: At least two options.
        shares: The probability of each.

    Raises:
        ValueError: a NaN: the model is broken, and no choice of it counts.
    """
    if any(math.isnan(share) for share in shares):
        raise ValueError(f"{point.subject}: the model's scores are not numbers")
    first, second, *_ = sorted(range(len(shares)), key=lambda n: -shares[n])
    return (
        ChoiceMade(
            point=point.subject,
            chosen=point.options[first],
            probability=round(shares[first], 6),
            runner_up=point.options[second],
            runner_up_probability=round(shares[second], 6),
        ),
        first,
    )


def distinct(texts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return of each text as much as tells it from all the others: what follows is written without asking.

    Raises:
        ValueError: one is the beginning of another: they could not be told apart.

    >>> distinct([(1, 2, 3, 4), (1, 5, 3, 4), (7, 8)])
    [(1, 2), (1, 5), (7,)]
    """
    heads = []
    for n, text in enumerate(texts):
        common = max((_common(text, other) for m, other in enumerate(texts) if m != n), default=0)
        if common >= len(text):
            raise ValueError(f"option {n} is the beginning of another one")
        heads.append(tuple(text[: common + 1]))
    return heads


def probabilities(texts: Sequence[Sequence[int]], logs: Sequence[Sequence[float]]) -> list[float]:
    """Return with which probability each text is written by a model that is allowed only these.

    Args:
        texts: Tokens, none the beginning of another.
        logs: ln P of each of their tokens.

    >>> probabilities([(1, 2), (1, 5), (7,)], [(-2.0, -9.0), (-2.0, -9.0), (-2.0,)])
    [0.25, 0.25, 0.5]
    """
    shares = [1.0] * len(texts)
    for n, text in enumerate(texts):
        for place in range(len(text)):
            same = [(t, ln) for t, ln in zip(texts, logs, strict=True) if _alike(t, text, place)]
            here = {t[place]: ln[place] for t, ln in same}
            if len(here) > 1:
                shares[n] *= _share(here[text[place]], list(here.values()))
    return shares


def _alike(one: Sequence[int], other: Sequence[int], places: int) -> bool:
    return len(one) > places and tuple(one[:places]) == tuple(other[:places])


def _share(log: float, among: Sequence[float]) -> float:
    top = max(among)
    if top == -math.inf:
        return 1.0 / len(among)
    return math.exp(log - top) / sum(math.exp(other - top) for other in among)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
