"""A reasoner that says what it was told to, in order: for tests and for reproducing a conversation."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.errors import ConnectionFault
from schemas.plans import Completion, ReasonerRequest


class ScriptedReasoner:
    """Answers from a queue."""

    name = "scripted"

    def __init__(self, answers: Iterable[str]) -> None:
        self._answers = list(answers)
        self.asked: list[ReasonerRequest] = []

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer with the next line.

        Raises:
            ConnectionFault: the queue is empty.
        """
        self.asked.append(request)
        if not self._answers:
            raise ConnectionFault("the script has no more answers")
        return Completion(raw=self._answers.pop(0), reasoner=self.name)
