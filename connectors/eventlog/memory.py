"""The event store in memory, with the semantics of the durable ones: for simulated runs and for tests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.clock import Clock
from connectors.eventlog.chain import genesis, link, sign
from connectors.eventlog.fence import UNTAKEN, CellRow, check_advance, check_fence, moved
from connectors.eventlog.subjects import subjects
from schemas.errors import LogError
from schemas.facts import AnyFact, encode, type_name
from schemas.records import Advance, Appended, Recorded, SignedHead, Taken


class MemoryStore:
    """A log that ends with the process. Satisfies `agent.ports.EventStore`; for one event loop."""

    def __init__(self, *, clock: Clock) -> None:
        self.log_id = str(uuid.uuid4())
        self._clock = clock
        self._key = Ed25519PrivateKey.generate()
        self._records: list[Recorded] = []
        self._by_cell: dict[str, list[Recorded]] = {}
        self._cells: dict[str, CellRow] = {}
        self._positions: dict[str, dict[str, int]] = {}
        self._subjects: dict[str, list[int]] = {}
        self._sleepers: list[asyncio.Future[None]] = []
        self._closed = False

    async def append(
        self, cell: str, facts: Sequence[AnyFact], *, expected: int, advance: Advance, epoch: int
    ) -> Appended:
        """Store all facts, or none. With no facts, only the input positions move.

        Raises:
            Fenced: `expected`, a `from` position or `epoch` does not match what is stored.
            LogError: the store is closed.
            ValueError: an input would move back.
        """
        self._check_open()
        check_advance(cell, advance)
        stored, positions = self._cells.get(cell, UNTAKEN), self._positions.get(cell, {})
        encoded = [(type_name(fact), encode(fact), subjects(fact)) for fact in facts]
        check_fence(cell, stored, positions, expected=expected, advance=advance, epoch=epoch)
        self._positions[cell] = after = moved(positions, advance)
        for type_, data, named in encoded:
            record = self._record(cell, type_, data, after)
            for subject in named:
                self._subjects.setdefault(subject, []).append(record.position)
        version = stored.version + len(facts)
        self._cells[cell] = CellRow(version, epoch)
        self._wake()
        return Appended(version, len(self._records))

    async def take(self, cell: str) -> Taken:
        """Raise the cell's epoch; whoever wrote with the one before is fenced from now on."""
        self._check_open()
        stored = self._cells.get(cell, UNTAKEN)
        self._cells[cell] = CellRow(stored.version, stored.epoch + 1)
        return Taken(stored.epoch + 1, stored.version, dict(self._positions.get(cell, {})))

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the cell's facts with `version > after`, in order."""
        return self._read(lambda: self._by_cell.get(cell, []), after, follow=False)

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        """Yield all facts with `position > after`, in order; with `follow` wait for more until the store is closed."""
        return self._read(lambda: self._records, after, follow=follow)

    async def read_at(self, positions: Sequence[int]) -> list[Recorded]:
        """Return the facts at these positions, in their order; positions that do not exist are left out."""
        return [self._records[p - 1] for p in positions if 1 <= p <= len(self._records)]

    async def positions_of(self, subject_id_prefix: str) -> list[int]:
        """Return where facts about an incident, episode, plan, command or request are, in order."""
        if not subject_id_prefix:
            raise ValueError("an empty prefix would name every fact: use read_all")
        found = (at for subject, at in self._subjects.items() if subject.startswith(subject_id_prefix))
        return sorted({position for positions in found for position in positions})

    async def head(self) -> SignedHead:
        """Return the end of the log, signed with a key that ends with the process."""
        if not self._records:
            return sign(self._key, self.log_id, 0, genesis(self.log_id), self._clock.now_us())
        last = self._records[-1]
        return sign(self._key, self.log_id, last.position, last.chain, last.recorded_at)

    async def close(self) -> None:
        """Accept nothing more; followers end. What was stored can still be read."""
        self._closed = True
        self._wake()

    async def __aenter__(self) -> MemoryStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _record(self, cell: str, type_: str, data: bytes, inputs: dict[str, int]) -> Recorded:
        stream = self._by_cell.setdefault(cell, [])
        last = self._records[-1] if self._records else None
        before, recorded_at = (last.chain, last.recorded_at) if last else (genesis(self.log_id), 0)
        recorded_at = max(recorded_at, self._clock.now_us())
        position, version = len(self._records) + 1, len(stream) + 1
        chain = link(
            before, position, cell.encode(), version, type_.encode(), recorded_at, msgspec.json.encode(inputs), data
        )
        record = Recorded(position, cell, version, type_, recorded_at, inputs, data, chain)
        self._records.append(record)
        stream.append(record)
        return record

    async def _read(
        self, records: Callable[[], Sequence[Recorded]], after: int, *, follow: bool
    ) -> AsyncIterator[Recorded]:
        while True:
            while after < len(records()):
                after += 1
                yield records()[after - 1]
            if not follow or self._closed:
                return
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append(sleeper)
            await sleeper

    def _wake(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("the log is closed")
