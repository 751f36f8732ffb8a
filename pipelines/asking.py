"""Readers of sentences: the tables of words first, and where they fall short a large model, if one is configured."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.asking.answering import plan_of
from agent.asking.following import INTERPRETATION
from agent.asking.interpreting import interpret
from agent.asking.languages import LANGUAGES
from agent.asking.named import unnamed
from agent.reasoning.parse import parse_plan
from agent.reasoning.repertoire import Repertoire
from connectors.reasoners.cascade import Cascade
from pipelines.model_reasoner import ModelReasoner
from schemas.errors import ConnectionFault
from schemas.plans import Attempt, Completion, Plan, ReasonerRequest
from schemas.sentences import Interpretation, Sentence, interpretation_of
from schemas.settings import CascadeSettings


class Phrasebook:
    """Reads by the tables. It answers at once and always."""

    name = "phrasebook"

    def __init__(self, repertoire: Repertoire) -> None:
        self._repertoire = repertoire

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer with the actions that were understood; the interpretation says what was not.

        Raises:
            ConnectionFault: the question is not about a sentence.
        """
        sentence = sentence_of(request)
        words = LANGUAGES[sentence.language]
        interpretation = interpret(sentence.text, words, self._repertoire, request.evidence.setpoints)
        plan, interpretation = plan_of(interpretation, request, self._repertoire)
        told = {"language": sentence.language, INTERPRETATION: interpretation.text()}
        return Completion(raw=msgspec.json.encode(plan).decode(), reasoner=self.name, model=told)


class SentenceReader:
    """Asks a model only for what the tables cannot read, and never about what nothing may follow from."""

    name = "sentence"

    def __init__(
        self, repertoire: Repertoire, models: Sequence[ModelReasoner], settings: CascadeSettings, *, speed: float
    ) -> None:
        """Take the parts.

        Args:
            repertoire: Of the cell.
            models: Large models in the order in which they are asked; none: the tables alone.
            settings: Deadline, and how sure a model must be.
            speed: Agent time in a second of the wall.
        """
        self._tables = Phrasebook(repertoire)

        def judge(completion: Completion, request: ReasonerRequest) -> str:
            return misread(completion, request, repertoire)

        self._models = Cascade([*models, self._tables], settings, judge, speed=speed) if models else None

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer by the tables if they read all of it; else by a model; else with what the tables did read.

        Raises:
            ConnectionFault: the question is not about a sentence.
        """
        by_tables = await self._tables.propose(request)
        interpretation = interpretation_of(by_tables.model[INTERPRETATION]) or Interpretation()
        if self._models is None or interpretation.barred or not interpretation.not_understood:
            return by_tables
        answer = await self._models.propose(request)
        if answer.reasoner == self._tables.name:
            return answer
        # What the tables read stays on record beside what the model made of it.
        missed = "; ".join(f"{part.words!r}: {part.reason}" for part in interpretation.not_understood)
        return msgspec.structs.replace(
            answer,
            model={**answer.model, INTERPRETATION: by_tables.model[INTERPRETATION]},
            tried=(Attempt(self._tables.name, missed[:300]), *answer.tried),
        )


def misread(completion: Completion, request: ReasonerRequest, repertoire: Repertoire) -> str:
    """Say why an answer is no reading of the sentence; empty if it is one."""
    parsed = parse_plan(completion.raw, request, repertoire.rules)
    if not isinstance(parsed, Plan):
        return f"{parsed.rule}: {parsed.reason}"
    if not any(finding.actions for finding in parsed.findings):
        return "it found no action in it"
    sentence = sentence_of(request)
    words = LANGUAGES[sentence.language]
    invented = unnamed(parsed, sentence.text, words, repertoire.rules, request.evidence.setpoints)
    return "" if invented is None else f"{invented.rule}: {invented.reason}"


def sentence_of(request: ReasonerRequest) -> Sentence:
    """Return the sentence that a question is about.

    Raises:
        ConnectionFault: it is about none, or in a language without words.
    """
    sentence = request.sentence
    if sentence is None or sentence.language not in LANGUAGES:
        raise ConnectionFault("this reader reads sentences only, in a language that it has words of")
    return sentence
