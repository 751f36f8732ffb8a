"""Several reasoners one after the other: the first answer that counts is taken, and who was asked in vain is recorded.

All but the last share one deadline. The last one, a playbook, answers in milliseconds and in any case: time is kept
back for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from schemas.errors import JidokaError
from schemas.plans import Attempt, Completion, ReasonerRequest
from schemas.settings import CascadeSettings

REASON_CHARS_MAX = 300
"""Of what is recorded about a failure."""

Judge = Callable[[Completion, ReasonerRequest], str]
"""Says why an answer is no plan; empty: it is one."""


class Proposer(Protocol):
    """The port `Reasoner`."""

    name: str

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer within `request.deadline_s`."""


class Cascade:
    """Asks in order."""

    name = "cascade"

    def __init__(
        self, reasoners: Sequence[Proposer], settings: CascadeSettings, judge: Judge, *, speed: float = 1.0
    ) -> None:
        """Take the reasoners.

        Args:
            reasoners: In order, at least one.
            settings: Deadline, and how sure an answer must be.
            judge: Says why an answer does not count.
            speed: Agent time in a second of the wall: a request's deadline is in agent time.
        """
        self._first, self._last = tuple(reasoners[:-1]), reasoners[-1]
        self._settings, self._judge, self._speed = settings, judge, speed

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer with the first answer that counts.

        Raises:
            ConnectionFault: from the last one.
        """
        allowed = min(self._settings.deadline_s, request.deadline_s / self._speed) - self._settings.reserve_s
        until, tried = time.monotonic() + allowed, list[Attempt]()
        for reasoner in self._first:
            found = await self._ask(reasoner, request, until - time.monotonic())
            if isinstance(found, Completion):
                return msgspec.structs.replace(found, tried=tuple(tried))
            tried.append(Attempt(reasoner.name, found[:REASON_CHARS_MAX]))
        answer = await self._last.propose(request)
        return msgspec.structs.replace(answer, tried=tuple(tried))

    async def _ask(self, reasoner: Proposer, request: ReasonerRequest, left_s: float) -> Completion | str:
        """Return an answer that counts, or why there is none."""
        if not left_s > 0:
            return "no time was left"
        try:
            hurried = msgspec.structs.replace(request, deadline_s=left_s)
            answer = await asyncio.wait_for(reasoner.propose(hurried), left_s)
        except TimeoutError:
            return f"no answer within {left_s:.1f} s"
        except JidokaError as error:
            return str(error)
        least = self._settings.confidence_min
        if answer.confidence is not None and not answer.confidence >= least:
            return f"not sure enough: {answer.confidence:.2f}, wanted is {least:g}"
        problem = self._judge(answer, request)
        return problem or answer
