"""A reasoner of one cell that asks a model: canonical evidence in, a plan out; the same question is asked once.

Kept answers are plans in slots: they answer every incident that looks the same. An answer is forgotten when the
incident that it was given to asks again, because then it did not mend it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from agent.reasoning.answer import raw_plan, slotted
from agent.reasoning.parse import parse_plan
from agent.reasoning.repertoire import Repertoire
from pipelines.questions import Answer, Model, Question, question_for
from schemas.errors import ConnectionFault
from schemas.plans import Completion, Plan, ReasonerRequest


@dataclass(slots=True)
class Kept:
    """An answer that is a plan, in slots."""

    answer: Answer
    plan: str
    """As `slotted` says it."""
    incidents: set[str]


@dataclass(slots=True)
class PlanCache:
    """Answers by question, those used last kept longest. Shared by the cells of a process."""

    size_max: int
    _kept: OrderedDict[str, Kept] = field(default_factory=OrderedDict)

    def get(self, key: str, incident_id: str) -> Kept | None:
        """Return what is kept for an incident; None if there is none, or if it was this incident's already."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if incident_id in kept.incidents:
            del self._kept[key]
            return None
        kept.incidents.add(incident_id)
        self._kept.move_to_end(key)
        return kept

    def put(self, key: str, incident_id: str, answer: Answer, plan: str) -> None:
        """Keep an answer."""
        self._kept[key] = Kept(answer, plan, {incident_id})
        self._kept.move_to_end(key)
        while len(self._kept) > self.size_max:
            self._kept.popitem(last=False)


class Lines:
    """One question at a time in each production line: an alarm flood in one must not starve another."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    def of(self, cell_path: str) -> asyncio.Lock:
        """Return the lock of the line to which a cell belongs."""
        return self._locks.setdefault(cell_path.rsplit("/", 1)[0], asyncio.Lock())


class ModelReasoner:
    """Asks one model about one cell."""

    def __init__(
        self, model: Model, repertoire: Repertoire, rules_sha256: str, cache: PlanCache, line: asyncio.Lock
    ) -> None:
        """Take the parts.

        Args:
            model: Who answers.
            repertoire: What the cell may choose from.
            rules_sha256: Of catalogue, policy, plant and playbook: an answer under others is another answer.
            cache: Where answers are kept.
            line: Held while the model is asked.
        """
        self.name = model.name
        self._model, self._repertoire, self._rules_sha256 = model, repertoire, rules_sha256
        self._cache, self._line = cache, line
        self._asked: dict[str, asyncio.Task[Answer]] = {}

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer, from what is kept or by asking.

        Raises:
            JidokaError: no answer can be had in time.
        """
        question = question_for(request, self._repertoire, self._model.told)
        identity = self._model.identity
        key = question.key(self._rules_sha256, identity)
        if identity and (kept := self._cache.get(key, request.incident_id)) is not None:
            raw = raw_plan(kept.plan, question.space, question.prompt.function)
            return self._completion(question, replace(kept.answer, raw=raw), kept=True)
        try:
            asked = asyncio.shield(self._ask_once(key, question, request))
            answer = await asyncio.wait_for(asked, request.deadline_s)
        except TimeoutError as error:
            raise ConnectionFault(f"{self.name} gave no answer within {request.deadline_s:.3g} s") from error
        return self._completion(question, answer, kept=False)

    def _ask_once(self, key: str, question: Question, request: ReasonerRequest) -> asyncio.Task[Answer]:
        """Return the task that asks; who asks the same meanwhile waits for the same answer."""
        task = self._asked.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(key, question, request))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return task

    async def _ask(self, key: str, question: Question, request: ReasonerRequest) -> Answer:
        async with asyncio.timeout(request.deadline_s), self._line:
            answer = await self._model.answer(question, deadline_s=request.deadline_s)
        plan = parse_plan(answer.raw, request, self._repertoire.rules)
        if isinstance(plan, Plan) and self._model.identity:
            self._cache.put(
                question.key(self._rules_sha256, self._model.identity),
                request.incident_id,
                answer,
                slotted(plan, question.space),
            )
        return answer

    def _forget(self, key: str, task: asyncio.Task[Answer]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            task.exception()  # who waited has it; nobody may be left who does

    def _completion(self, question: Question, answer: Answer, *, kept: bool) -> Completion:
        return Completion(
            raw=answer.raw,
            reasoner=self.name,
            model={**answer.details, **({"kept": "true"} if kept else {})},
            prompt=question.prompt.text(),
            said=answer.said,
            confidence=answer.confidence,
            choices=answer.choices,
        )


def unusable(completion: Completion, request: ReasonerRequest, repertoire: Repertoire) -> str:
    """Say why an answer is no plan; empty if it is one."""
    parsed = parse_plan(completion.raw, request, repertoire.rules)
    return "" if isinstance(parsed, Plan) else f"{parsed.rule}: {parsed.reason}"
