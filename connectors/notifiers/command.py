"""A notifier that runs a program of the site's own, and one that only writes to the process log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from schemas.errors import ConnectionFault

LOG = logging.getLogger("jidoka.notify")


class LogNotifier:
    """Writes to the process log."""

    name = "log"

    async def notify(self, title: str, text: str, *, urgent: bool) -> None:
        """Write one line."""
        LOG.log(logging.WARNING if urgent else logging.INFO, "%s: %s", title, text)


class CommandNotifier:
    """Runs a program with title and text as its last two arguments. No shell."""

    name = "command"

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._command, self._timeout_s = tuple(command), timeout_s

    async def notify(self, title: str, text: str, *, urgent: bool) -> None:
        """Run it.

        Raises:
            ConnectionFault: it cannot be started, fails or takes too long.
        """
        try:
            process = await asyncio.create_subprocess_exec(*self._command, title, text)
        except OSError as error:
            raise ConnectionFault(f"notify.command {self._command[0]!r} cannot be started: {error}") from error
        try:
            status = await asyncio.wait_for(process.wait(), self._timeout_s)
        except asyncio.CancelledError:
            await _end(process)
            raise
        except TimeoutError as error:
            await _end(process)
            raise ConnectionFault(f"notify.command took more than {self._timeout_s:g} s") from error
        if status != 0:
            raise ConnectionFault(f"notify.command ended with status {status}")


async def _end(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()
