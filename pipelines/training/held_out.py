"""The sets on which the embedded model is measured: drawn from their own stream, none of it seen in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.guard.question import Rulebook
from agent.reasoning.repertoire import repertoire_of
from pipelines.training.cells import TrainingCell, made_up_cell
from pipelines.training.incidents import SHARES, STORIES, Incident, Story, incident
from pipelines.training.simulated import simulated_cell
from pipelines.training.splits import HELD_OUT, chance, is_held_out
from schemas.catalogue import Catalogue
from schemas.plant import Cell
from schemas.playbook import Playbook


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """One set of incidents."""

    name: str
    title: str
    """What is other than in training."""
    stories: tuple[Story, ...] = STORIES
    noise: float = 0.0
    simulated: bool = False
    """The simulated cell, shuffled anew each time; else made-up cells with names of syllables never used."""
    missing: float = 0.15
    """Share of actions that the catalogue does not have."""
    only_missing: bool = False
    only_held_out: bool = False


SETS: Final = (
    HeldOutSet("names", "made-up cells, unseen names"),
    HeldOutSet("orders", "the simulated cell, its tags, actions and rules in unseen orders", simulated=True),
    HeldOutSet("missing", "what would mend it cannot be done", ("single",), missing=0.5, only_missing=True),
    HeldOutSet("several", "two or three faults at once", ("several",)),
    HeldOutSet("combinations", "combinations of faults kept out of training", ("several",), only_held_out=True),
    HeldOutSet("unknown", "what no known cause explains", ("unknown",)),
    HeldOutSet("no_fault", "nothing is wrong any more", ("no_fault",)),
    HeldOutSet("sensor", "the measurement is wrong, not the process", ("sensor",)),
    HeldOutSet("mixed", "a fault beside something unknown or a doubted measurement", ("mixed",)),
    HeldOutSet("noisy", "12 % of the tags not shown, weaker, absent or deviating for nothing", noise=0.12),
    HeldOutSet("noisier", "30 % of them: more than in training", noise=0.3),
)


def drawn(held_out: HeldOutSet, count: int, *, seed: int) -> Iterator[tuple[Incident, TrainingCell]]:
    """Yield `count` incidents of a set, each of a cell of its own."""
    rng = chance(seed, HELD_OUT, [each.name for each in SETS].index(held_out.name))
    shares = np.array([SHARES[STORIES.index(story)] for story in held_out.stories])
    yielded = 0
    while yielded < count:
        cell = (
            shuffled(simulated_cell(), rng)
            if held_out.simulated
            else made_up_cell(rng, names="unseen", missing=held_out.missing)
        )
        story = held_out.stories[int(rng.choice(len(shares), p=shares / shares.sum()))]
        found = incident(cell, rng, story=story, noise=held_out.noise)
        if found is None or (held_out.only_missing and not found.missing):
            continue
        if held_out.only_held_out and not is_held_out(found, cell):
            continue
        yielded += 1
        yield found, cell


def shuffled(cell: TrainingCell, rng: np.random.Generator) -> TrainingCell:
    """Return the same cell with everything in another order. Its rules exclude each other, so that they may be."""
    rules = cell.repertoire.rules

    def mixed(entries: Sequence[object]) -> list[object]:
        return [entries[int(n)] for n in rng.permutation(len(entries))]

    plant = rules.cell.model_dump()
    other = Cell.model_validate({**plant, **{field: mixed(plant[field]) for field in ("assets", "robots", "tags")}})
    catalogue = Catalogue.model_validate({"actions": mixed(rules.catalogue.model_dump()["actions"])})
    playbook = Playbook.model_validate({"rules": mixed(cell.playbook.model_dump()["rules"])})
    return TrainingCell(repertoire_of(Rulebook(other, catalogue, rules.policy), playbook), playbook, cell.faults)
