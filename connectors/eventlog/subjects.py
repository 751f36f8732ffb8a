"""Which incidents, episodes, plans, commands and requests a fact speaks of. Pure; an index, never hashed."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.commands import Command
from schemas.facts import (
    AnyFact,
    CommandIntended,
    OperatorRequested,
    PlanProposed,
    ReasonerAsked,
)

_FIELDS = ("incident_id", "episode_id", "plan_id", "command_id", "request_id", "subject_id")
_TARGETS_A_COMMAND = ("approve", "deny", "resolve")


def subjects(fact: AnyFact) -> frozenset[str]:
    """Return the ids that somebody may look the fact up by; empty ones are left out."""
    return frozenset(name for name in _named(fact) if name)


def _named(fact: AnyFact) -> Iterator[str]:
    for field in _FIELDS:
        yield getattr(fact, field, "")
    match fact:
        case ReasonerAsked(request=request):
            yield request.request_id
            yield request.incident_id
        case PlanProposed(commands=commands):
            for command in commands:
                yield from _of_command(command)
        case CommandIntended(command=command):
            yield from _of_command(command)
        case OperatorRequested(kind=kind, target=target) if kind in _TARGETS_A_COMMAND:
            yield target
        case _:
            pass


def _of_command(command: Command) -> Iterator[str]:
    yield command.command_id
    yield command.plan_id
    yield command.incident_id
