"""What a model is asked about one incident of one cell, and what is known about its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.asking import prompt as sentence_prompt
from agent.asking.languages import LANGUAGES
from agent.asking.named import repertoire_for
from agent.reasoning import compact, prompt
from agent.reasoning.canonical import canonical
from agent.reasoning.compact import CompactPhrasing
from agent.reasoning.phrasing import JsonPhrasing, Phrasing
from agent.reasoning.repertoire import Repertoire
from agent.reasoning.space import PlanSpace, space_of
from schemas.errors import ConnectionFault
from schemas.plans import ChoiceMade, ReasonerRequest
from schemas.reasoning import Prompt
from schemas.sentences import Sentence

Told = Literal["names", "slots"]


@dataclass(frozen=True, slots=True)
class Question:
    """One incident, ready to be asked about."""

    prompt: Prompt
    space: PlanSpace
    phrasing: Phrasing
    told: Told

    def key(self, *more: str) -> str:
        """Return what is equal exactly when the same model under the same rules is asked the same thing."""
        return hashlib.sha256("\x1f".join([self.prompt.text(), self.phrasing.name, *more]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said."""

    said: str
    """Word for word."""
    raw: str
    """In the form of `Plan`, or as said if it is none."""
    confidence: float | None = None
    choices: tuple[ChoiceMade, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    """What reproduces it: model, digests, versions, sampling."""


class Model(Protocol):
    """Something that answers questions, in memory or behind a server."""

    name: str
    told: Told

    @property
    def identity(self) -> str:
        """What an answer depends on beside the question. Empty: not known yet."""

    async def answer(self, question: Question, *, deadline_s: float) -> Answer:
        """Answer within `deadline_s` of wall time.

        Raises:
            JidokaError: no answer can be had.
        """


def question_for(request: ReasonerRequest, repertoire: Repertoire, told: Told) -> Question:
    """Return what a model is asked.

    Raises:
        ConnectionFault: it is about a sentence, and the model is told slots only.
    """
    if request.sentence is not None:
        return _about(request.sentence, request, repertoire, told)
    evidence = canonical(request, repertoire.rules.cell)
    space = space_of(evidence, repertoire)
    if told == "slots":
        return Question(
            compact.prompt_of(evidence, space, repertoire), space, CompactPhrasing(evidence, space, repertoire), told
        )
    return Question(prompt.prompt_of(evidence, space, repertoire), space, JsonPhrasing(), told)


def _about(sentence: Sentence, request: ReasonerRequest, repertoire: Repertoire, told: Told) -> Question:
    if told == "slots" or sentence.language not in LANGUAGES:
        raise ConnectionFault("a model that is told slots only cannot read a sentence")
    setpoints = request.evidence.setpoints
    named = repertoire_for(sentence.text, LANGUAGES[sentence.language], repertoire, setpoints)
    evidence = sentence_prompt.evidence_of(request)
    space = space_of(evidence, named)
    return Question(sentence_prompt.prompt_of(sentence.text, evidence, space, named), space, JsonPhrasing(), told)
