"""A reasoner that answers as it did before: for running a recorded input once more without asking a model again."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.errors import ConnectionFault
from schemas.facts import ReasonerAnswered
from schemas.plans import Completion, ReasonerRequest
from schemas.records import Recorded


class RecordedReasoner:
    """Answers from a log, by request id: ids are derived, so the same question has the same one."""

    name = "recorded"

    def __init__(self, records: Iterable[Recorded]) -> None:
        facts = (record.fact for record in records if record.type == "reasoner.answered/1")
        self._answers = {fact.request_id: fact.completion for fact in facts if isinstance(fact, ReasonerAnswered)}

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer as recorded.

        Raises:
            ConnectionFault: this was never asked.
        """
        answer = self._answers.get(request.request_id)
        if answer is None:
            raise ConnectionFault(f"request {request.request_id} has no recorded answer")
        return answer
