"""Group commit: one thread commits for everybody who waits.

Whoever arrives while a commit runs is taken along by the next one, so callers share a sync of the disk; a lone caller
pays a hop to the thread and back and waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from schemas.errors import LogError

QUEUE_MAX = 1024
"""Appends that may wait for the disk. Every cell waits for its own, so more means that somebody does not."""
GROUP_MAX = 256
"""Appends in one transaction."""

_Work = TypeVar("_Work")


class GroupCommit(Generic[_Work]):
    """A thread that commits work in groups and answers each caller in the caller's own event loop."""

    def __init__(
        self,
        commit: Callable[[Sequence[_Work]], Sequence[Any]],
        *,
        between: Callable[[bool], float | None],
    ) -> None:
        """Start the thread.

        Args:
            commit: Makes the group durable and returns one result or exception per piece of work. Must not raise.
            between: Called after each group and, with True, when nothing came for the seconds that it returned last;
                None: there is nothing to do in a pause. Must not raise.
        """
        self._commit, self._between = commit, between
        self._queue: queue.SimpleQueue[tuple[_Work, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    async def submit(self, work: _Work) -> Any:
        """Return the result of `work` when its group is durable, or raise its exception.

        If the caller is cancelled while it waits, the work may be done or not.

        Raises:
            LogError: too much waits already, or the end was called.
        """
        if self._ended:
            raise LogError("the log is closed")
        if self._queue.qsize() >= QUEUE_MAX:
            raise LogError(f"{QUEUE_MAX} appends wait already: the disk is too slow, or somebody does not await them")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put((work, done))
        return await done

    async def end(self) -> None:
        """Refuse new work, finish what waits, and end the thread."""
        if not self._ended:
            self._ended = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        pause_s: float | None = None
        more = True
        while more:
            try:
                group, more = self._next_group(pause_s)
            except queue.Empty:
                pause_s = self._between(True)
                continue
            if group:
                results = self._commit([work for work, _ in group])
                _answer([(done, result) for (_, done), result in zip(group, results, strict=True)])
            pause_s = self._between(False)

    def _next_group(self, pause_s: float | None) -> tuple[list[tuple[_Work, asyncio.Future[Any]]], bool]:
        item = self._queue.get(timeout=pause_s)
        group: list[tuple[_Work, asyncio.Future[Any]]] = []
        with contextlib.suppress(queue.Empty):
            while item is not None:
                group.append(item)
                if len(group) == GROUP_MAX:
                    break
                item = self._queue.get_nowait()
        return group, item is not None


def _answer(answers: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for done, result in answers:
        by_loop.setdefault(done.get_loop(), []).append((done, result))
    for loop, its_own in by_loop.items():
        with contextlib.suppress(RuntimeError):  # The loop ended: nobody waits any more.
            loop.call_soon_threadsafe(_resolve, its_own)


def _resolve(answers: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for done, result in answers:
        if done.done():
            continue
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)
