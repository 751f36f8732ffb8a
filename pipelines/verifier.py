"""Watches rows for the postcondition of a command that is done. Pure; its memory is a value.

A row counts if it began after the read-back, so that a cycle that the command fell into proves nothing. A row without a
good value begins the count anew: what was not seen was not shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.cell import CellState
from schemas.catalogue import Catalogue, Postcondition
from schemas.errors import CodecError
from schemas.facts import EffectAbsent, EffectVerified
from schemas.observations import ObservedRow
from schemas.plant import Cell

UNSEEN_S = 30.0
"""Agent time without a tick beyond which the agent was down: a living source ticks every second."""


class Watch(msgspec.Struct, frozen=True):
    """One command under verification."""

    since_at: int
    unseen_us: int = 0
    """Agent time since then in which no tick came: it does not count against the effect."""
    rows: int = 0
    held_since_at: int = 0
    worst: float = 0.0

    def ends_at(self, within_s: float) -> int:
        """Return when the time for showing it is over, microseconds since 1970 UTC."""
        return self.since_at + int(within_s * 1e6) + self.unseen_us


class Memory(msgspec.Struct, frozen=True):
    """What a verifier remembers."""

    last_at: int
    watches: dict[str, Watch]


class Verifier:
    """All watches of one cell."""

    def __init__(self, cell: Cell, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._group = {tag.name: tag.group for tag in cell.tags}
        self._watches: dict[str, Watch] = {}
        self._last_at = 0
        """Agent time of the last tick."""

    def follow(self, state: CellState) -> None:
        """Watch exactly the commands that the state says are being verified."""
        wanted = {key: c for key, c in state.commands.items() if c.phase == "verifying"}
        self._watches = {
            key: self._watches.get(key, Watch(since_at=progress.since_at)) for key, progress in wanted.items()
        }

    def feed(self, rows: Sequence[ObservedRow], at_us: int, state: CellState) -> list[EffectVerified | EffectAbsent]:
        """Return what a tick proves: the rows that it closed, and the time until `at_us`."""
        results: list[EffectVerified | EffectAbsent] = []
        self._pass(at_us)
        for command_id in list(self._watches):
            condition = self._postcondition(command_id, state)
            if condition is None:  # the catalogue is another one since it was sent
                results.append(
                    EffectAbsent(at=at_us, command_id=command_id, reason="its action has no postcondition any more")
                )
                continue
            verified = self._rows(command_id, condition, rows, at_us)
            if verified is not None:
                results.append(verified)
            elif at_us > self._watches[command_id].ends_at(condition.within_s):
                watch = self._watches[command_id]
                reason = f"{condition.tag} was not {condition.comparator} {condition.value:g} {_span(condition)}"
                reason += f" within {condition.within_s:g} s (best run: {watch.rows} rows at the end)"
                results.append(EffectAbsent(at=at_us, command_id=command_id, reason=reason))
        return results

    def _pass(self, at_us: int) -> None:
        """Leave out the time between two ticks in which the agent was not there."""
        unseen_us = at_us - self._last_at if self._last_at and at_us - self._last_at > UNSEEN_S * 1e6 else 0
        self._last_at = at_us
        if unseen_us:
            for key, watch in self._watches.items():
                self._watches[key] = msgspec.structs.replace(watch, unseen_us=watch.unseen_us + unseen_us)

    def _rows(
        self, command_id: str, condition: Postcondition, rows: Sequence[ObservedRow], at_us: int
    ) -> EffectVerified | None:
        group = self._group[condition.tag]
        for row in rows:
            watch = self._watches[command_id]
            if row.group != group or row.start_at < watch.since_at:
                continue
            watch = _count(watch, condition, row.value(condition.tag), row.end_at)
            self._watches[command_id] = watch
            if _shown(watch, condition, row.end_at):
                worst = float(f"{watch.worst:.6g}")
                return EffectVerified(at=at_us, command_id=command_id, rows=watch.rows, worst=worst)
        return None

    def _postcondition(self, command_id: str, state: CellState) -> Postcondition | None:
        progress = state.commands.get(command_id)
        action = self._catalogue.action(progress.command.action) if progress is not None else None
        return action.postcondition if action is not None else None

    def snapshot(self) -> Memory:
        """Return what it remembers, for a snapshot of the whole derivation."""
        return Memory(self._last_at, dict(self._watches))

    def restore(self, memory: Memory) -> None:
        """Go on from a snapshot."""
        self._last_at, self._watches = memory.last_at, dict(memory.watches)


def decode_memory(data: bytes) -> Memory:
    """Read what `msgspec.msgpack.encode(verifier.snapshot())` gave.

    Raises:
        CodecError: it is something else.
    """
    try:
        return msgspec.msgpack.decode(data, type=Memory)
    except msgspec.DecodeError as error:
        raise CodecError(f"not a verifier snapshot: {error}") from error


def _count(watch: Watch, condition: Postcondition, value: float, end_at: int) -> Watch:
    if not condition.holds(value):  # NaN holds nothing
        return msgspec.structs.replace(watch, rows=0, held_since_at=0, worst=0.0)
    started = watch.held_since_at or end_at
    worst = value if watch.rows == 0 else _worse(condition, watch.worst, value)
    return msgspec.structs.replace(watch, rows=watch.rows + 1, held_since_at=started, worst=worst)


def _worse(condition: Postcondition, a: float, b: float) -> float:
    return max(a, b) if condition.comparator in ("lt", "le") else min(a, b)


def _shown(watch: Watch, condition: Postcondition, end_at: int) -> bool:
    if watch.rows == 0:
        return False
    if condition.for_cycles is not None:
        return watch.rows >= condition.for_cycles
    return condition.held_for_s is not None and end_at - watch.held_since_at >= condition.held_for_s * 1e6


def _span(condition: Postcondition) -> str:
    return f"for {condition.for_cycles} rows" if condition.for_cycles else f"for {condition.held_for_s:g} s"
