"""Replay of a stored log: which configuration held when, and from where to begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.cell import CellState, apply
from agent.guard.question import Rulebook
from agent.ports import Blobs
from pipelines.config import DECISIVE, rulebooks
from pipelines.derive import Derivation
from pipelines.recover import rebuild
from pipelines.replay import Replayed, replay
from schemas.errors import LogError
from schemas.facts import ConfigAdopted
from schemas.records import Recorded
from schemas.samples import Kept

Read = Callable[[int], Iterator[Kept]]
"""Gives the kept input behind a position."""


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of one cell's records under one configuration."""

    start: int
    """Index of its first record."""
    end: int
    rules: Rulebook


def sections(records: Sequence[Recorded], blobs: Blobs, cell: str) -> list[Section]:
    """Cut a cell's records where the decisive configuration changed.

    Raises:
        LogError: the log names no configuration, or its blobs are gone.
        ConfigError: the configuration of then is not one that this version reads.
    """
    adopted: dict[str, str] = {}
    cuts: list[tuple[int, dict[str, str]]] = []
    for index, record in enumerate(records):
        if record.type != "config.adopted/1":
            continue
        fact = record.fact
        assert isinstance(fact, ConfigAdopted)
        if fact.name not in DECISIVE or adopted.get(fact.name) == fact.sha256:
            continue
        adopted = {**adopted, fact.name: fact.sha256}
        start = _start_of_opening(records, index)
        if cuts and cuts[-1][0] == start:
            cuts.pop()
        cuts.append((start, adopted))
    if not cuts or any(name not in cuts[0][1] for name in DECISIVE):
        raise LogError(f"the log of {cell} names no configuration: there is nothing to replay it with")
    ends = [start for start, _ in cuts[1:]] + [len(records)]
    return [Section(start, end, _rules(names, blobs, cell)) for (start, names), end in zip(cuts, ends, strict=True)]


def _start_of_opening(records: Sequence[Recorded], index: int) -> int:
    """Return where the run of `config.adopted/1` around a record begins: a start adopts all files one after another."""
    while index > 0 and records[index - 1].type == "config.adopted/1":
        index -= 1
    return index


def _rules(names: dict[str, str], blobs: Blobs, cell: str) -> Rulebook:
    try:
        files = {name: blobs.get(sha256) for name, sha256 in names.items()}
    except KeyError as error:
        raise LogError(
            f"configuration blob {error.args[0]} is gone: restore the folder blobs/ from a backup"
        ) from error
    rules = rulebooks(files)
    if cell not in rules:
        raise LogError(f"the plant.toml of then has no cell {cell}")
    return rules[cell]


def replay_cell(
    records: Sequence[Recorded],
    read: Read,
    blobs: Blobs,
    cell: str,
    *,
    rules: Rulebook | None = None,
    progress: Callable[[Replayed], None] | None = None,
) -> Replayed:
    """Re-derive everything that one cell's records say was derived.

    Args:
        records: All records of the cell, from the first.
        read: Its kept input.
        blobs: Configuration and snapshots of then.
        cell: Its path.
        rules: Another configuration, to see what would change; None: those of then.
        progress: Called after every record.
    """
    total = Replayed()
    for section in sections(records, blobs, cell):
        derivation = Derivation(rules or section.rules)
        inputs, _ = rebuild(derivation, blobs, records[: section.start], read)
        part = replay(records[section.start : section.end], inputs, derivation=derivation, progress=progress)
        total.add(part)
        if total.divergence is not None:
            break
    return total


def state_at(
    records: Sequence[Recorded], cell: str, *, position: int | None = None, at_us: int | None = None
) -> CellState:
    """Replay L0: the state after the last fact not behind `position` and not after `at_us`."""
    state = CellState(cell)
    for record in records:
        if position is not None and record.position > position:
            break
        fact = record.fact
        if at_us is not None and fact.at > at_us:
            break
        state = apply(state, fact)
    return state
