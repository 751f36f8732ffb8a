"""Blocking questions to something that may hang: in a thread, one at a time, never waited for longer than said.

A thread cannot be killed. One whose time is up goes on, alone; until it ends nobody else gets in, and everybody is
told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from schemas.errors import ConnectionFault, JidokaError

T = TypeVar("T")


class OneAtATime:
    """The way in to one model."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = asyncio.Lock()
        self._due_at = 0.0
        """Loop time by which who is inside should be out."""

    async def run(self, work: Callable[[], T], *, timeout_s: float) -> T:
        """Return what `work` returns.

        Raises:
            ConnectionFault: it, or the one before it, was not done in time; or it failed.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._lock.locked() and began > self._due_at:
            raise ConnectionFault(f"{self._name} hangs: a question before took longer than its time")
        try:
            await asyncio.wait_for(self._lock.acquire(), timeout_s)
        except TimeoutError as error:
            raise ConnectionFault(f"{self._name} is still busy with another question") from error
        self._due_at = began + timeout_s
        asking = _Asking(work, loop, self._lock.release)
        threading.Thread(target=asking.run, name=f"reasoner-{self._name}", daemon=True).start()
        try:
            return await asyncio.wait_for(asking.result, timeout_s - (loop.time() - began))
        except TimeoutError as error:
            raise ConnectionFault(f"{self._name} gave no answer within {timeout_s:.3g} s") from error


class _Asking(Generic[T]):
    """One question, from its thread back into the loop."""

    def __init__(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
        self._work, self._loop, self._done = work, loop, done
        self.result: asyncio.Future[T] = loop.create_future()

    def run(self) -> None:
        """Work, in the thread."""
        try:
            value = self._work()
        except Exception as error:  # noqa: BLE001  # the top of a thread: whatever went wrong in a model, somebody else is asked then
            fault = error if isinstance(error, JidokaError) else ConnectionFault(f"{type(error).__name__}: {error}")
            self._tell(lambda: self.result.set_exception(fault))
        else:
            self._tell(lambda: self.result.set_result(value))

    def _tell(self, settle: Callable[[], None]) -> None:
        def back() -> None:
            self._done()
            if not self.result.done():
                settle()

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(back)
