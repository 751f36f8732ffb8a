"""Incidents as token sequences: what the model reads, and what it should have answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from agent.reasoning import compact
from pipelines.training.cells import TrainingCell, made_up_cell
from pipelines.training.incidents import SHARES, STORIES, Incident, Story, incident
from pipelines.training.simulated import simulated_cell
from pipelines.training.splits import is_held_out
from pipelines.training.words import SPACE, numbers

SIMULATED_SHARE = 0.12
"""Of the cells, those that are the simulated one."""
PER_CELL = 12
"""Incidents drawn of one cell before the next is made up."""
NOISE = (0.0, 0.0, 0.05, 0.12)


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of an answer."""

    at: int
    """The token from which it is told: the last one before it."""
    offered: tuple[int, ...]
    """What each option begins with, each once, at least two."""
    right: int
    """Which of them."""


@dataclass(frozen=True, slots=True)
class Example:
    """One incident in tokens."""

    tokens: tuple[int, ...]
    """What is asked, then the right answer."""
    choices: tuple[Choice, ...]
    """Where the answer could have been another one: what was not offered is not to be learnt."""


def examples(rng: np.random.Generator) -> Iterator[Example]:
    """Yield training examples without end."""
    while True:
        cell = simulated_cell() if rng.random() < SIMULATED_SHARE else made_up_cell(rng)
        for _ in range(PER_CELL):
            story: Story = STORIES[int(rng.choice(len(STORIES), p=SHARES))]
            found = incident(cell, rng, story=story, noise=float(rng.choice(NOISE)))
            if found is not None and not is_held_out(found, cell):
                yield example(found, cell)


def example(found: Incident, cell: TrainingCell) -> Example:
    """Return an incident in tokens, as the chat template would have them."""
    words = numbers_once()
    prompt = compact.prompt_of(found.evidence, found.space, cell.repertoire).messages[0].content.split()
    tokens = [words[w] for w in ("<|im_start|>", "user", *prompt, "<|im_end|>", "<|im_start|>", "assistant")]
    phrasing = compact.CompactPhrasing(found.evidence, found.space, cell.repertoire)
    choices = []
    for draft, option in found.drafts():
        point = draft.point()
        assert point is not None, "the right answer is a way through the space"
        # Slots and values without a word of their own are spelt in bytes, and all begin with a space.
        pieces = {o: [words.get(w, SPACE) for w in phrasing.piece(draft, point, o).split()] for o in point.options}
        alike = list(pieces.values())
        for place, token in enumerate(pieces[option]):
            # Where options part, as `deciding.probabilities` has it.
            offered = tuple(sorted({piece[place] for piece in alike}))
            if len(offered) > 1:
                choices.append(Choice(len(tokens) - 1, offered, offered.index(token)))
                alike = [piece for piece in alike if piece[place] == token]
            tokens.append(token)
    return Example(tuple(tokens), tuple(choices))


def said(found: Incident, cell: TrainingCell) -> str:
    """Return the right answer as the model would say it."""
    phrasing = compact.CompactPhrasing(found.evidence, found.space, cell.repertoire)
    pieces = []
    for draft, option in found.drafts():
        point = draft.point()
        assert point is not None, "the right answer is a way through the space"
        pieces.append(phrasing.piece(draft, point, option))
    return "".join(pieces)


numbers_once = cache(numbers)
