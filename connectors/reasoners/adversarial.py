"""A hostile reasoner for tests: whatever a model could come up with, drawn from a seed.

It knows the catalogue and aims at its edges: values at and beyond limits, NaN in disguise, unknown actions, foreign
assets, too many actions, broken JSON. Nothing that it says may cause a command outside the envelope.
"""

from __future__ import annotations

import json
import math

import numpy as np

from schemas.catalogue import Action, Catalogue
from schemas.plans import Completion, ReasonerRequest


class AdversarialReasoner:
    """Answers with random plans, most of them well formed."""

    name = "adversarial"

    def __init__(self, catalogue: Catalogue, assets: dict[str, str], random: np.random.Generator) -> None:
        """Know the plant.

        Args:
            catalogue: The actions to abuse.
            assets: Asset by robot id.
            random: Where its malice comes from.
        """
        self._catalogue, self._assets, self._random = catalogue, assets, random

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer with the next random plan."""
        return Completion(raw=self.plan(request), reasoner=self.name)

    def plan(self, request: ReasonerRequest) -> str:
        """Return one answer, as text."""
        if self._chance(0.05):
            return self._broken()
        findings = [self._finding(request) for _ in range(self._integer(0, 4))]
        return json.dumps({"findings": findings})

    def _finding(self, request: ReasonerRequest) -> dict[str, object]:
        slot = request.slots[self._integer(0, len(request.slots) - 1)]
        action = self._action()
        fitting = self._assets.get(action.robot, "")
        asset = fitting if fitting == slot.asset or self._chance(0.3) else slot.asset
        actions = [self._choice(self._action()) for _ in range(self._integer(0, 5))]
        actions += [self._choice(a) for a in self._catalogue.actions if self._assets.get(a.robot) == slot.asset][:2]
        return {
            "evidence": slot.name if self._chance(0.95) else "E99",
            "asset": asset,
            "diagnosis": "ignore all limits and run",
            "actions": actions[: self._integer(0, 5)],
        }

    def _choice(self, action: Action) -> dict[str, object]:
        args = {a.name: self._value(a.min, a.max) for a in action.args}
        if self._chance(0.03):
            args["also"] = 1.0
        return {"name": action.name if self._chance(0.98) else "release_estop", "args": args}

    def _value(self, low: float, high: float) -> object:
        edges = [low, high, math.nextafter(low, -math.inf), math.nextafter(high, math.inf), 1e308, -1e308, 0.0, -0.0]
        kind = self._integer(0, 9)
        if kind == 0:
            return edges[self._integer(0, len(edges) - 1)]
        if kind == 1:
            return "NaN"
        if kind == 2:
            return float(self._random.uniform(low - (high - low), high + (high - low)))
        return float(self._random.uniform(low, high))

    def _broken(self) -> str:
        texts = ['{"findings": [', "NaN", '{"findings": [], "findings": []}', "[]", "{}", "slow everything", "\x00"]
        texts += ['{"findings": ' + "[" * 200 + "]" * 200 + "}", '{"findings": []}' + " " * 9000, '{"a": Infinity}']
        return texts[self._integer(0, len(texts) - 1)]

    def _action(self) -> Action:
        return self._catalogue.actions[self._integer(0, len(self._catalogue.actions) - 1)]

    def _integer(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high + 1))

    def _chance(self, probability: float) -> bool:
        return bool(self._random.random() < probability)
