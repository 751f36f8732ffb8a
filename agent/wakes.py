"""Names of wake-ups: what for, whom, and when. They are in the log: a name of no known form is nobody's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wake:
    """A wake-up as its name says it."""

    kind: str
    subject: str
    at: int
    """Agent time for which it was armed, microseconds since 1970 UTC."""


def name_wake(kind: str, subject: str, at: int) -> str:
    """Return the name.

    >>> name_wake("quiet", "i1", 5)
    'quiet|i1|5'
    """
    return f"{kind}|{subject}|{at}"


def read_wake(wake_id: str) -> Wake | None:
    """Return what a name says; None: it is not one of ours.

    >>> read_wake("quiet|i1|5"), read_wake("quiet|i1")
    (Wake(kind='quiet', subject='i1', at=5), None)
    """
    parts = wake_id.split("|")
    if len(parts) != 3:
        return None
    try:
        return Wake(parts[0], parts[1], int(parts[2]))
    except ValueError:
        return None
