"""One line of what `jidoka doctor` says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """Empty when `ok`."""


def failed(name: str, fault: Exception) -> Check:
    """Part a fault's text into what was seen and what to do: remedies are its last sentences."""
    detail, _, remedy = str(fault).partition(". ")
    return Check(name, False, detail, remedy or "See the server's log.")
