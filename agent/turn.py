"""One turn of the agent: the facts concluded so far and the state after them."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.cell import CellState, apply
from agent.guard.question import Rulebook
from schemas.facts import AnyFact


@dataclass(slots=True)
class Turn:
    """Collects conclusions. Lives within one call of `step`; nothing else in the core changes in place."""

    state: CellState
    rules: Rulebook
    at: int
    facts: list[AnyFact] = field(default_factory=list)

    def conclude(self, fact: AnyFact) -> None:
        """Add a fact and see its consequences in `state`."""
        self.facts.append(fact)
        self.state = apply(self.state, fact)
