"""Sentences through the core: a story in which somebody asks in plain language, read by the real phrasebook."""

from __future__ import annotations

import asyncio

from agent.asking.interpreting import interpret
from agent.asking.languages import LANGUAGES
from agent.effects import AskReasoner, ReadSetpoints
from agent.guard.question import Rulebook
from agent.reasoning.repertoire import Repertoire, repertoire_of
from pipelines.asking import Phrasebook
from schemas import facts
from schemas.catalogue import Catalogue
from schemas.sentences import Interpretation
from tests.support.builders import SETPOINTS, snapshot
from tests.support.demo import demo_rules
from tests.support.incidents import demo_playbook, demo_repertoire
from tests.support.story import Story


def heard(text: str, repertoire: Repertoire | None = None, **setpoints: float) -> Interpretation:
    """What the English tables make of a text in the demo's cell."""
    return interpret(text, LANGUAGES["en"], repertoire or demo_repertoire(), {**SETPOINTS, **setpoints})


def with_inspection() -> Rulebook:
    """The demo's cell with a second conveyor's name, and a gripper that can be inspected."""
    rules = demo_rules()
    renamed = [
        asset.model_copy(update={"aliases": ("conveyor 2", "belt")}) if asset.id == "drive" else asset
        for asset in rules.cell.assets
    ]
    inspect = next(a for a in rules.catalogue.actions if a.name == "clean_pads").model_copy(
        update={"name": "inspect_gripper", "title": "Look at the pads with the camera", "aliases": ("photograph",),
                "exclusive_with": ()}
    )  # fmt: skip
    cell = rules.cell.model_copy(update={"assets": tuple(renamed)})
    return Rulebook(cell, Catalogue(actions=(*rules.catalogue.actions, inspect)), rules.policy)


class Asking(Story):
    """A story with a reader of sentences."""

    def asks(self, text: str, request_id: str = "ask1", **changes: object) -> Asking:
        """A person writes; set-points are read and the phrasebook answers, as far as the core wishes."""
        self.operator("ask", request_id, reason=text, **changes)
        for wish in self.outstanding(ReadSetpoints):
            self.feed(snapshot(wish.subject_id, self.at, self.read()))
        for ask in self.outstanding(AskReasoner):
            if ask.request.sentence is not None:
                reader = Phrasebook(repertoire_of(self.rules, demo_playbook()))
                completion = asyncio.run(reader.propose(ask.request))
                answered = facts.ReasonerAnswered(at=self.at, request_id=ask.request.request_id, completion=completion)
                self.feed(answered)
        return self

    @property
    def refusal(self) -> tuple[str, str]:
        """Rule and reason of the last refusal."""
        last = self.last(facts.RequestRefused)
        return last.rule, last.reason

    @property
    def proposed(self) -> list[tuple[str, dict[str, float]]]:
        """Actions of the last plan."""
        return [(c.action, c.args) for c in self.last(facts.PlanProposed).commands]
