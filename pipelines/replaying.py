"""Replay of a stored log: which configuration held when, and from where to begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.cell import CellState, apply
from agent.guard.question import Rulebook
from agent.identity import derive
from agent.ports import Blobs
from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.segment_reading import Stretch, read_kept, stretches
from pipelines.config import DECISIVE, rulebooks
from pipelines.decide import COLD
from pipelines.derive import Derivation
from pipelines.detectors.calibration import FILE as CALIBRATION
from pipelines.hosting import Folders
from pipelines.recover import Lookahead, rebuild, usable_snapshot
from pipelines.replay import Replayed, replay
from schemas.errors import LogError
from schemas.facts import DERIVED_NAMES, AgentStarted, ConfigAdopted, DetectorSnapshotted, OperatorRequested
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
    """Cut a cell's records where the decisive configuration changed, or the detectors began anew.

    Raises:
        LogError: the log names no configuration, or its blobs are gone.
        ConfigError: the configuration of then is not one that this version reads.
    """
    adopted: dict[str, str] = {}
    cuts: list[tuple[int, dict[str, str]]] = []
    opened = 0
    for index, record in enumerate(records):
        if record.type == "agent.started/1":
            opened = index
        if _began_cold(record, records[opened]):
            start = _start_of_opening(records, opened)
        elif record.type == "config.adopted/1":
            fact = record.fact
            assert isinstance(fact, ConfigAdopted)
            if fact.name not in (*DECISIVE, CALIBRATION) or adopted.get(fact.name) == fact.sha256:
                continue
            adopted = {**adopted, fact.name: fact.sha256}
            start = _start_of_opening(records, index)
        elif record.type == "agent.started/1" and CALIBRATION in adopted and not _calibrated(records, index):
            adopted = {name: sha256 for name, sha256 in adopted.items() if name != CALIBRATION}
            start = _start_of_opening(records, index)
        else:
            continue
        if cuts and cuts[-1][0] == start:
            cuts.pop()
        cuts.append((start, adopted))
    if not cuts or any(name not in cuts[0][1] for name in DECISIVE):
        raise LogError(f"the log of {cell} names no configuration: there is nothing to replay it with")
    ends = [start for start, _ in cuts[1:]] + [len(records)]
    return [Section(start, end, _rules(names, blobs, cell)) for (start, names), end in zip(cuts, ends, strict=True)]


def _calibrated(records: Sequence[Recorded], index: int) -> bool:
    """Whether the opening that ends at a start adopted a calibration. One that was taken away is adopted by nobody."""
    opening = (record.fact for record in records[_start_of_opening(records, index) : index])
    return any(isinstance(fact, ConfigAdopted) and fact.name == CALIBRATION for fact in opening)


def _start_of_opening(records: Sequence[Recorded], index: int) -> int:
    """Return where the opening around a record begins: a start adopts all files one after another."""
    while index > 0 and records[index - 1].type in ("config.adopted/1", "autonomy.raised/1"):
        index -= 1
    return index


def _began_cold(record: Recorded, opened: Recorded) -> bool:
    """Whether this says that the agent of an opening had lost what its detectors had learnt."""
    fact, started = record.fact, opened.fact
    if not (isinstance(fact, OperatorRequested) and isinstance(started, AgentStarted)):
        return False
    return fact.request_id == derive(record.cell, COLD, str(started.epoch))


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


def replay_folder(
    folders: Folders,
    records: Sequence[Recorded],
    cell: str,
    *,
    blobs: Blobs | None = None,
    rules: Rulebook | None = None,
    progress: Callable[[Replayed], None] | None = None,
) -> Replayed:
    """Re-run one cell's records from the input, configuration and snapshots in an agent's folders.

    Args:
        folders: Where the input is kept.
        records: All records of the cell, from the first.
        cell: Its path.
        blobs: Configuration and snapshots; None: those in the folders.
        rules: Another configuration, to see what would change; None: those of then.
        progress: Called after every record.

    Raises:
        LogError: nothing can be re-run.
        LogCorrupt: kept input does not verify.
        ConfigError: the configuration of then is not one that this version reads.
    """
    blobs = FileBlobs(folders.blobs) if blobs is None else blobs
    segments = folders.segments(sections(records, blobs, cell)[-1].rules.cell)

    def read(after: int) -> Iterator[Kept]:
        return read_kept(segments, after=after)

    kept = stretches(segments)
    return replay_cell(records, read, blobs, cell, kept=kept, rules=rules, progress=progress)


WHOLE = Stretch(1, 1 << 62)
"""Input of which nothing was deleted."""


def replay_cell(
    records: Sequence[Recorded],
    read: Read,
    blobs: Blobs,
    cell: str,
    *,
    kept: Sequence[Stretch] = (WHOLE,),
    rules: Rulebook | None = None,
    progress: Callable[[Replayed], None] | None = None,
) -> Replayed:
    """Re-derive everything that one cell's records say was derived, as far as the input for it is kept.

    Args:
        records: All records of the cell, from the first.
        read: Its kept input.
        blobs: Configuration and snapshots of then.
        cell: Its path.
        kept: Which input is still kept; a stretch that is not the first is entered at its detectors' snapshot.
        rules: Another configuration, to see what would change; None: those of then.
        progress: Called after every record.

    Raises:
        LogError: nothing can be re-run.
    """
    total = Replayed()
    for section in sections(records, blobs, cell):
        for stretch in kept:
            if (begin := _begin(section, stretch, rules or section.rules, records, read, blobs)) is None:
                continue
            end = _end(section, stretch, records)
            part = replay(records[begin.index : end], begin.inputs, derivation=begin.derivation, progress=progress)
            total.add(part)
            if end > begin.index:
                total.spans.append((records[begin.index].position, records[end - 1].position))
            if total.divergence is not None:
                return total
    total.left_out = sum(record.type in DERIVED_NAMES for record in records) - total.facts_compared
    if total.left_out and not total.spans:
        raise LogError(f"{cell}: no input is kept from which anything could be re-run: restore the folder segments/")
    return total


@dataclass(frozen=True, slots=True)
class _Begin:
    """Where a re-run begins."""

    index: int
    """Of its first record."""
    derivation: Derivation
    inputs: Lookahead[Kept]


def _begin(
    section: Section, stretch: Stretch, rules: Rulebook, records: Sequence[Recorded], read: Read, blobs: Blobs
) -> _Begin | None:
    """Return where a section can be re-run from within a stretch; None if it cannot."""

    def within(after: int) -> Iterator[Kept]:
        return _until(read(after), stretch.last)

    derivation = Derivation(rules)
    position = records[section.start - 1].inputs.get("input", 0) if section.start else 0
    if stretch.first - 1 <= position <= stretch.last:
        snapshot, _ = usable_snapshot(derivation, blobs, records[: section.start])
        if (snapshot.position if snapshot is not None else 0) >= stretch.first - 1:
            inputs, _ = rebuild(derivation, blobs, records[: section.start], within)
            return _Begin(section.start, derivation, inputs)
    for index in range(section.start, section.end):
        fact = records[index].fact
        if isinstance(fact, DetectorSnapshotted) and stretch.first - 1 <= fact.position <= stretch.last:
            snapshot, _ = usable_snapshot(derivation, blobs, records[: index + 1])
            if snapshot is None or snapshot.index != index:
                continue
            inputs, _ = rebuild(derivation, blobs, records[: index + 1], within)
            return _Begin(index + 1, derivation, inputs)
    return None


def _end(section: Section, stretch: Stretch, records: Sequence[Recorded]) -> int:
    """Return the index behind the section's last record whose input the stretch has."""
    end = section.end
    while end > section.start and records[end - 1].inputs.get("input", 0) > stretch.last:
        end -= 1
    return end


def _until(inputs: Iterator[Kept], last: int) -> Iterator[Kept]:
    """Yield up to position `last`, and look no further: behind it there may be a hole."""
    for kept in inputs:
        if kept.position <= last:
            yield kept
        if kept.position >= last:
            return


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
