"""Fulfils the wishes that reach no machine: asking reasoners, telling people and detectors, waking up.

This is all that mode `observe` has. It imports nothing that can write to a plant.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from agent.effects import AskReasoner, Effect, Notify, Rebaseline, WakeAt
from agent.ports import Clock, Notifier, Reasoner
from schemas.errors import ConnectionFault, JidokaError
from schemas.facts import AnyFact, NotificationSent, ReasonerAnswered, ReasonerFailed, TimeReached
from schemas.plans import Completion, Post
from schemas.plant import Cell
from schemas.samples import AGENT, Control, Input

LOG = logging.getLogger("jidoka.fulfil")

NOTIFY_MAX = 4
"""Notifications delivered at the same time: an alarm flood must not become a flood of processes."""


class Service(Protocol):
    """The cell's decision service, as far as fulfilling needs it."""

    @property
    def epoch(self) -> int:
        """The fence that input of our own bears."""

    async def put(self, message: Input | AnyFact) -> None:
        """Hand over a result, or input; waits while full."""


class Advisor:
    """Starts one task per wish; results come back as facts."""

    def __init__(
        self,
        service: Service,
        cell: Cell,
        clock: Clock,
        reasoners: Mapping[Post, Reasoner],
        notifiers: Sequence[Notifier],
    ) -> None:
        self._inbox, self._cell, self._clock = service, cell, clock
        self._controls = 0
        self._reasoners, self._notifiers = reasoners, notifiers
        self._notifying = asyncio.Semaphore(NOTIFY_MAX)
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
            case Rebaseline():
                return self._rebaseline(effect)
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

    async def _rebaseline(self, effect: Rebaseline) -> None:
        """Tell the detectors through the cell's one order, so that replay sees it at the same place."""
        self._controls += 1
        ids = {tag.name: tag.id for tag in self._cell.tags}
        await self._inbox.put(
            Control(
                source=AGENT,
                epoch=self._inbox.epoch,
                seq=self._controls,
                kind="rebaseline",
                # Without tags it is all of them; those that the cell no longer has are left out.
                tags=tuple(ids[name] for name in effect.tags or tuple(ids) if name in ids),
                settle_s=effect.settle_s,
                text=effect.cause_id,
            )
        )

    async def _ask(self, effect: AskReasoner) -> None:
        """One answer or one failure; what comes after the deadline is recorded and dropped by the step."""
        request = effect.request
        post: Post = "sentence" if request.sentence is not None else request.tier
        reasoner = self._reasoners.get(post)
        try:
            if reasoner is None:
                raise ConnectionFault("nobody is there for this")
            completion = await reasoner.propose(request)
        except JidokaError as error:
            name = reasoner.name if reasoner is not None else post
            failed = ReasonerFailed(
                at=self._clock.now_us(), request_id=request.request_id, reasoner=name, reason=str(error)
            )
            await self.deliver(failed)
            return
        await self.deliver(
            ReasonerAnswered(at=self._clock.now_us(), request_id=request.request_id, completion=_storable(completion))
        )

    async def _notify(self, effect: Notify) -> None:
        """Tell every notifier, a bounded number at a time; delivered if all of them could."""
        failures = []
        async with self._notifying:
            for notifier in self._notifiers:
                try:
                    await notifier.notify(effect.title, effect.text, urgent=effect.urgent)
                except JidokaError as error:
                    failures.append(f"{notifier.name}: {error}")
        await self.deliver(
            NotificationSent(
                at=self._clock.now_us(),
                notification_id=effect.notification_id,
                notifier=", ".join(notifier.name for notifier in self._notifiers),
                delivered=not failures,
                detail="; ".join(failures),
            )
        )


def _storable(completion: Completion) -> Completion:
    """Return the answer as UTF-8 can hold it: a lone surrogate becomes a question mark, and no plan has one."""
    raw = completion.raw.encode("utf-8", "replace").decode("utf-8")
    return completion if raw == completion.raw else msgspec.structs.replace(completion, raw=raw)
