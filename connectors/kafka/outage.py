"""Says once that something does not go, and once that it goes again: an outage of an hour is two lines of the log."""

from __future__ import annotations

import logging
import time
from typing import Final

KINDS_MAX: Final = 8
"""Kinds of reasons that are said of one outage."""


class Outage:
    """One thing that may be away. For one thread."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """Prepare; it counts as there.

        Args:
            log: Where to say so, as a warning: both ends of an outage belong together.
            what: Begins each line, e.g. `decisions.v1`.
        """
        self._log, self._what = log, what
        self._began_s: float | None = None
        self._said: set[str] = set()

    def is_on(self, error: Exception) -> None:
        """Note that it does not go; a reason of another kind than those before is said too."""
        kind = type(error).__name__
        if self._began_s is None:
            self._began_s = time.monotonic()
        if kind in self._said or len(self._said) >= KINDS_MAX:
            return
        self._said.add(kind)
        self._log.warning("%s: %s: %s; tried again until it goes", self._what, kind, error)

    def is_over(self) -> None:
        """Note that it goes."""
        if self._began_s is None:
            return
        self._log.warning("%s: goes again, after %.0f s", self._what, time.monotonic() - self._began_s)
        self._began_s = None
        self._said.clear()
