"""Models that answer, hang, are slow or talk rubbish: real implementations of the port, in threads as the real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from connectors.reasoners.in_thread import OneAtATime
from pipelines.questions import Answer, Question, Told
from schemas.errors import ConnectionFault

Behaviour = Callable[[Question, float], Answer]
CLEAN = (
    '{"findings": [{"evidence": "S1", "diagnosis": "oil_on_pads", "actions": [{"name": "clean_pads", "args": {}}]}]}'
)
"""The call's arguments for slipping parts: any incident whose worst sign is the gripper's."""


def says(said: str, confidence: float | None = 0.9) -> Behaviour:
    """Answers at once."""
    from agent.reasoning.answer import raw_plan

    def answer(question: Question, deadline_s: float) -> Answer:
        raw = raw_plan(said, question.space, question.prompt.function)
        return Answer(said, raw, confidence, (), {"model": "test"})

    return answer


def fails(error: BaseException) -> Behaviour:
    """Ends with an error."""

    def answer(question: Question, deadline_s: float) -> Answer:
        raise error

    return answer


def late(seconds: float, then: Behaviour) -> Behaviour:
    """Takes its time, whatever the deadline."""

    def answer(question: Question, deadline_s: float) -> Answer:
        time.sleep(seconds)
        return then(question, deadline_s)

    return answer


def hangs(until: threading.Event) -> Behaviour:
    """Does nothing until it is let go."""

    def answer(question: Question, deadline_s: float) -> Answer:
        until.wait(60)
        raise ConnectionFault("was let go")

    return answer


class ThreadedModel:
    """One model with a behaviour."""

    told: Told = "names"
    identity = "test-model"

    def __init__(self, behaviour: Behaviour, name: str = "large") -> None:
        self.name, self.behaviour = name, behaviour
        self.asked: list[Question] = []
        self.at_once = 0
        self.at_once_most = 0
        self._way_in = OneAtATime(name)

    async def answer(self, question: Question, *, deadline_s: float) -> Answer:
        self.asked.append(question)
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            return await self._way_in.run(lambda: self.behaviour(question, deadline_s), timeout_s=deadline_s)
        finally:
            self.at_once -= 1
