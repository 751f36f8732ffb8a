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
from pipelines.training.words import numbers

SIMULATED_SHARE = 0.12
"""Of the cells, those that are the simulated one."""
PER_CELL = 12
"""Incidents drawn of one cell before the next is made up."""
NOISE = (0.0, 0.0, 0.05, 0.12)


@dataclass(frozen=True, slots=True)
class Example:
    """One incident in tokens."""

    tokens: tuple[int, ...]
    answer_at: int
    """Where the answer begins."""


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
    asked = [words[w] for w in ("<|im_start|>", "user", *prompt, "<|im_end|>", "<|im_start|>", "assistant")]
    answer = [words[word] for word in said(found, cell).split()]
    return Example((*asked, *answer, words["<|im_end|>"]), len(asked))


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
