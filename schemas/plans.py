"""What a reasoner is asked, and what it may answer: a closed set of actions, or nothing."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.evidence import Evidence
from schemas.sentences import Sentence

Tier = Literal["reflex", "proposal"]
Post = Literal["reflex", "proposal", "sentence"]
"""What a reasoner of a cell is there for: the tiers of an incident, and a person's sentences."""

FINDINGS_MAX, ACTIONS_PER_FINDING_MAX, ACTIONS_MAX = 3, 4, 4


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One episode of the incident as the reasoner sees it: no id, no number, no text of the plant."""

    name: str
    """`E1`, `E2`, … in the order of onset."""
    asset: str
    tag: str
    detector: str
    direction: Literal["up", "down", "none"]


class ReasonerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One question to a reasoner."""

    request_id: str
    incident_id: str
    """Empty for a sentence."""
    tier: Tier
    slots: tuple[Slot, ...]
    """For a sentence: one per asset that something acts on."""
    evidence: Evidence
    deadline_s: float
    sentence: Sentence | None = None
    """What a person wrote; None: the question is about an incident. Left out of the bytes then, as ever."""


class ChoiceMade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One choice of a model that decides choice by choice, and what came second."""

    point: str
    """What was chosen: `target`, `diagnosis S1`, `action S1`, `set_grip_force.grip_force_n`."""
    chosen: str
    probability: float
    """Of `chosen` among the options offered, 0..1."""
    runner_up: str
    runner_up_probability: float


class Attempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reasoner that was asked before and whose answer does not count."""

    reasoner: str
    reason: str
    """For people: no answer within 10 s, not sure enough, refused the connection."""


class Completion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A reasoner's raw answer and who gave it.

    What is not said is left out, so that answers that were recorded before a field was there keep their bytes.
    """

    raw: str
    """In the form of `Plan`, with the request's slots."""
    reasoner: str
    """Name in the table `REASONERS`."""
    model: dict[str, str] = {}
    """What reproduces it: model id, weights digest, template hash, sampling parameters, seed. Empty for a playbook."""
    prompt: str = ""
    """What a model was told, whole. Empty for a playbook."""
    said: str = ""
    """What a model answered, word for word, before slots became names. Empty for a playbook."""
    confidence: float | None = None
    """Probability of the least certain choice or token, 0..1. None: it has none, or none is told."""
    choices: tuple[ChoiceMade, ...] = ()
    """With their probabilities, where the model decides choice by choice."""
    tried: tuple[Attempt, ...] = ()
    """Who was asked before, in order, and why that answer does not count."""


class PlannedAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An action of the catalogue with its values."""

    name: str
    args: dict[str, float] = {}


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One diagnosis and what to do about it."""

    evidence: str
    """A slot of the request."""
    asset: str
    diagnosis: str
    actions: tuple[PlannedAction, ...]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A usable answer. No finding and no action are legal answers."""

    findings: tuple[Finding, ...]


class Unusable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer that is not a plan, with the guard's rule that says so."""

    rule: str
    reason: str
