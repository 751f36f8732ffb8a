"""How a process says what it does: a line of text, or one JSON object a line with the ids of what it is about.

What a line is about (cell, incident, command) is set where work on it begins, by `about`; everything that is logged
within, in any module and in tasks that it starts, bears it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

Form = Literal["text", "json"]

SUBJECTS = ("cell", "incident_id", "command_id")
"""What a line can be about; a record's own `extra` of the same name goes over it."""
TEXT = "%(asctime)s %(name)s %(levelname)s %(message)s"
SILENT = ("asyncua", "kafka")
"""Libraries that log what we say in our own words."""
CHATTY = "aiokafka"
"""A library that says the same ten times a second while a broker is away."""
SELDOM_S = 30.0
"""Wall time for which it does not say the same again."""

OWN = logging.getLogger("jidoka.process")
"""What a process says of itself: that it runs, why it ends."""
_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


@contextlib.contextmanager
def about(*, cell: str = "", incident_id: str = "", command_id: str = "") -> Iterator[None]:
    """Let every line that is logged within, and in tasks started within, say what it is about; empty adds nothing."""
    named = {"cell": cell, "incident_id": incident_id, "command_id": command_id}
    token = _ABOUT.set({**_ABOUT.get(), **{key: value for key, value in named.items() if value}})
    try:
        yield
    finally:
        _ABOUT.reset(token)


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, process, and what it is about."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
            "pid": os.getpid(),
        }
        for name in SUBJECTS:
            if value := getattr(record, name, "") or _ABOUT.get().get(name, ""):
                line[name] = value
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Seldom(logging.Filter):
    """Lets a library say the same only every `SELDOM_S`, whatever numbers stand in it."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library
        self._said_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether it may be said."""
        if record.name.partition(".")[0] != self._library:
            return True
        key = (record.name, str(record.msg))
        if record.created - self._said_s.get(key, 0.0) < SELDOM_S:
            return False
        self._said_s[key] = record.created
        return True


def speak(form: Form, *, process: str = "jidoka") -> None:
    """Log to stderr in this form from now on, warnings and worse."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom(CHATTY))
    handler.setFormatter(JsonLines(process) if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=form == "json")
    OWN.setLevel(logging.INFO)
    for silent in SILENT:
        logging.getLogger(silent).setLevel(logging.CRITICAL)


def announce(sentence: str) -> None:
    """Say what runs now: a line on stdout, or in JSON a line of the log."""
    if _json():
        OWN.info(sentence)
    else:
        print(sentence, flush=True)


def last_words(sentence: str) -> None:
    """Say why the process ends."""
    if _json():
        OWN.critical(sentence)
    else:
        print(f"jidoka: {sentence}", file=sys.stderr)


def _json() -> bool:
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)
