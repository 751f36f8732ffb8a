"""Older facts as today's: one pure step from each version to the next, never edited after its release.

Empty while every type is at its first version. A step gets the fact as read from the log and returns that of the next
version, its `type` included; steps follow one another until none applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Raw = dict[str, Any]
"""A fact as JSON has it, with its `type`."""

UPCASTS: Mapping[str, Callable[[Raw], Raw]] = {}
"""By the type that a step takes, e.g. `anomaly.detected/1`."""


def upcast(raw: Raw, steps: Mapping[str, Callable[[Raw], Raw]] = UPCASTS) -> Raw:
    """Return the fact in its newest version.

    Raises:
        ValueError: a step leaves the type as it was, or leads back to an earlier one.

    >>> renamed = {"door.opened/1": lambda raw: {"type": "door.opened/2", "door": raw["name"]}}
    >>> upcast({"type": "door.opened/1", "name": "north"}, renamed)
    {'type': 'door.opened/2', 'door': 'north'}
    """
    passed: list[object] = []
    while (step := steps.get(str(raw.get("type")))) is not None:
        passed.append(raw["type"])
        raw = step(dict(raw))
        if raw.get("type") in passed:
            raise ValueError(f"the step from {passed[-1]} leads to {raw.get('type')!r}, not to a newer version")
    return raw
