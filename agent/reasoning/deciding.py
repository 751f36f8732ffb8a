"""Choice by choice: the model is asked only where the incident and the catalogue leave a choice; code writes the rest.

Every answer is a plan by construction, and each choice has its probability: that of the option's text, given that it
is one of the options' texts. Source of the idea: SayCan (Ahn et al., 2022), which ranks skills by the model's own
likelihood.
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

    def score(self, continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return ln P(continuation | everything so far), one each.

        Args:
            continuations: Tokens that may come next; at least one each, none the beginning of another.

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
            made, best = choose(point, scoring.score(tokens))
            choices.append(made)
        scoring.advance(tokens[best])
        said += pieces[best]
        draft = draft.take(point.options[best])
    return Decided(draft, said.strip(), tuple(choices))


def choose(point: ChoicePoint, logs: Sequence[float]) -> tuple[ChoiceMade, int]:
    """Return the likeliest option with its probability, and its place. Of equals the first.

    Args:
        point: At least two options.
        logs: ln P, one for each option.

    Raises:
        ValueError: a NaN: the model is broken, and no choice of it counts.
    """
    if any(math.isnan(log) for log in logs):
        raise ValueError(f"{point.subject}: the model's scores are not numbers")
    shares = probabilities(logs)
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


def probabilities(logs: Sequence[float]) -> list[float]:
    """Return exp(logs), scaled to sum 1. If all are minus infinity, equal shares.

    >>> probabilities([-1000.0, -1000.0])
    [0.5, 0.5]
    """
    top = max(logs)
    if top == -math.inf:
        return [1.0 / len(logs)] * len(logs)
    weights = [math.exp(log - top) for log in logs]
    return [weight / sum(weights) for weight in weights]
