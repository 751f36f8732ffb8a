"""Fulfils the wishes that reach no machine: asking reasoners, telling people, waking up.

This is all that mode `observe` has. It imports nothing that can write to a plant.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from agent.effects import AskReasoner, Effect, Notify, WakeAt
from agent.ports import Clock, Notifier, Reasoner
from schemas.errors import JidokaError
from schemas.facts import AnyFact, NotificationSent, ReasonerAnswered, ReasonerFailed, TimeReached
from schemas.plans import Completion, Tier

LOG = logging.getLogger("jidoka.fulfil")


class Inbox(Protocol):
    """Where results go back as facts."""

    async def put(self, message: AnyFact) -> None:
        """Hand over; waits while full."""


class Advisor:
    """Starts one task per wish; results come back as facts."""

    def __init__(
        self, inbox: Inbox, clock: Clock, reasoners: Mapping[Tier, Reasoner], notifiers: Sequence[Notifier]
    ) -> None:
        self._inbox, self._clock = inbox, clock
        self._reasoners, self._notifiers = reasoners, notifiers
        self._tasks: set[asyncio.Task[None]] = set()
        self._wakes: dict[str, asyncio.Task[None]] = {}
        self.on_failure: Callable[[BaseException], None] = lambda error: LOG.error("a wish failed: %r", error)

    def fulfil(self, effects: Sequence[Effect]) -> None:
        """Start every wish."""
        for effect in effects:
            if isinstance(effect, WakeAt):
                self._wakes[effect.wake_id] = self._start(self._wake(effect), self._wakes_done)
            elif (work := self.work_for(effect)) is not None:
                self._tasks.add(self._start(work, self._tasks.discard))

    def work_for(self, effect: Effect) -> Coroutine[Any, Any, None] | None:
        """Return what fulfils a wish; None if there is nothing to do outside."""
        match effect:
            case AskReasoner():
                return self._ask(effect)
            case Notify():
                return self._notify(effect)
            case _:
                return None

    def keep_wakes(self, wake_ids: frozenset[str]) -> None:
        """Cancel sleepers that nobody wishes for any more."""
        for wake_id in [w for w in self._wakes if w not in wake_ids]:
            self._wakes.pop(wake_id).cancel()

    @property
    def busy(self) -> int:
        """Wishes under way, sleepers not counted."""
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel everything and wait for it."""
        tasks = [*self._tasks, *self._wakes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def deliver(self, fact: AnyFact) -> None:
        """Bring a result back."""
        await self._inbox.put(fact)

    def _start(self, work: Coroutine[Any, Any, None], done: Callable[[asyncio.Task[None]], None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(done)
        task.add_done_callback(self._check)
        return task

    def _wakes_done(self, task: asyncio.Task[None]) -> None:
        self._wakes = {key: t for key, t in self._wakes.items() if t is not task}

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.on_failure(error)

    async def _wake(self, effect: WakeAt) -> None:
        await self._clock.sleep_until(effect.at)
        await self.deliver(TimeReached(at=self._clock.now_us(), wake_id=effect.wake_id))

    async def _ask(self, effect: AskReasoner) -> None:
        """One answer or one failure; what comes after the deadline is recorded and dropped by the step."""
        request = effect.request
        reasoner = self._reasoners[request.tier]
        try:
            completion = await reasoner.propose(request)
        except JidokaError as error:
            failed = ReasonerFailed(
                at=self._clock.now_us(), request_id=request.request_id, reasoner=reasoner.name, reason=str(error)
            )
            await self.deliver(failed)
            return
        await self.deliver(
            ReasonerAnswered(at=self._clock.now_us(), request_id=request.request_id, completion=_storable(completion))
        )

    async def _notify(self, effect: Notify) -> None:
        """Tell every notifier; delivered if one of them could."""
        for notifier in self._notifiers:
            detail, delivered = "", True
            try:
                await notifier.notify(effect.title, effect.text, urgent=effect.urgent)
            except JidokaError as error:
                detail, delivered = str(error), False
            await self.deliver(
                NotificationSent(
                    at=self._clock.now_us(),
                    notification_id=effect.notification_id,
                    notifier=notifier.name,
                    delivered=delivered,
                    detail=detail,
                )
            )


def _storable(completion: Completion) -> Completion:
    """Return the answer as UTF-8 can hold it: a lone surrogate becomes a question mark, and no plan has one."""
    raw = completion.raw.encode("utf-8", "replace").decode("utf-8")
    return completion if raw == completion.raw else msgspec.structs.replace(completion, raw=raw)
