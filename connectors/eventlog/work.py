"""What callers give to a durable store, and the records that come of it. Pure; the same for every store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectors.eventlog.chain import link
from connectors.eventlog.subjects import subjects
from schemas.facts import AnyFact, encode, type_name
from schemas.records import Advance


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fact as it will be stored."""

    type: str
    data: bytes
    subjects: frozenset[str]


@dataclass(frozen=True, slots=True)
class Append:
    """Facts of one input, all or none."""

    cell: str
    facts: Sequence[Prepared]
    expected: int
    advance: Advance
    epoch: int


@dataclass(frozen=True, slots=True)
class Take:
    """Raise the epoch of a cell."""

    cell: str


Work = Append | Take

Row = tuple[int, str, int, str, int, str, bytes, bytes]
"""Position, cell, version, type, recorded_at, inputs, data, chain: a stored event."""


@dataclass(slots=True)
class End:
    """The log's end while a transaction is being filled."""

    position: int
    chain: bytes
    recorded_at: int


def prepare(fact: AnyFact) -> Prepared:
    """Encode a fact for storing."""
    return Prepared(type_name(fact), encode(fact), subjects(fact))


def chained(work: Append, version: int, inputs: bytes, end: End) -> list[Row]:
    """Return the rows of an append, and move `end` to the last of them.

    Args:
        work: What is appended.
        version: Of the cell's last fact before it.
        inputs: The cell's input positions after it, as JSON.
        end: The log's end before it, with the time of recording already raised.
    """
    rows: list[Row] = []
    cell = work.cell.encode()
    for fact in work.facts:
        end.position += 1
        version += 1
        end.chain = link(end.chain, end.position, cell, version, fact.type.encode(), end.recorded_at, inputs, fact.data)
        rows.append(
            (end.position, work.cell, version, fact.type, end.recorded_at, inputs.decode(), fact.data, end.chain)
        )
    return rows
