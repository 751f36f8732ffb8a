"""Lets a library say the same only now and then: while a broker is away, aiokafka says so twenty times a second."""

from __future__ import annotations

import logging
import time
from typing import Final

PAUSE_S: Final = 30.0
"""Wall time between two lines that say the same of something."""
KINDS_MAX: Final = 1_000
"""Kinds of lines that are remembered; beyond, all are forgotten and said once more."""
LIBRARY: Final = "aiokafka"


class Seldom(logging.Filter):
    """Passes the first line of its kind, and the next one a pause later, with how many there were between."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        super().__init__()
        self._pause_s = pause_s
        self._said: dict[tuple[str, str], tuple[float, int]] = {}
        """By logger and text without its values: when it was said last, and how often it was not since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to pass it."""
        kind, now_s = (record.name, str(record.msg)), time.monotonic()
        said_s, held_n = self._said.get(kind, (-self._pause_s, 0))
        if now_s - said_s < self._pause_s:
            self._said[kind] = (said_s, held_n + 1)
            return False
        if len(self._said) >= KINDS_MAX:
            self._said.clear()
        self._said[kind] = (now_s, 0)
        if held_n:
            record.msg, record.args = f"{record.getMessage()} (and {held_n} times more since)", ()
        return True


def hush(library: str = LIBRARY) -> None:
    """Let a library that is loaded repeat itself seldom. Again is free."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        ours = name == library or name.startswith(f"{library}.")
        if ours and isinstance(logger, logging.Logger) and not any(isinstance(f, Seldom) for f in logger.filters):
            logger.addFilter(Seldom())
