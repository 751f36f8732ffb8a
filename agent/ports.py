"""What the core must be given, as shapes. Connectors satisfy them without importing this."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from schemas.commands import Command, Reading
from schemas.facts import AnyFact
from schemas.outcomes import Outcome
from schemas.plans import Completion, ReasonerRequest
from schemas.records import Advance, Appended, Recorded, SignedHead, Taken


class EventStore(Protocol):
    """One stream of facts per cell, compare-and-append, fenced by epoch. See docs/event-log.md."""

    async def append(
        self, cell: str, facts: Sequence[AnyFact], *, expected: int, advance: Advance, epoch: int
    ) -> Appended:
        """Store all facts in one durable transaction, or none.

        Raises:
            Fenced: `expected`, a `from` position or `epoch` does not match what is stored.
            LogHalted: the disk failed; the store accepts nothing more.
        """

    async def take(self, cell: str) -> Taken:
        """Raise the cell's epoch durably; whoever wrote with the one before is fenced from now on."""

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the cell's facts with `version > after`, in order."""

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        """Yield all facts with `position > after`, in order; with `follow` wait for more for ever."""

    async def head(self) -> SignedHead:
        """Return the signed end of the log."""


class Blobs(Protocol):
    """Bytes by their SHA-256. Durable when `put` returns."""

    def put(self, data: bytes) -> str:
        """Store and return 64 hex digits. Storing again is free."""

    def get(self, sha256: str) -> bytes:
        """Return the bytes.

        Raises:
            KeyError: not here.
            LogCorrupt: they no longer have this hash.
        """


class Reasoner(Protocol):
    """Something that proposes. It cannot act."""

    name: str

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer within `request.deadline_s`.

        Raises:
            ConnectionFault: no answer can be had.
        """


class Robot(Protocol):
    """Something that takes commands. Every call is bounded in time and never raises for a plant's failure."""

    async def snapshot(self, tags: Sequence[str]) -> Mapping[str, Reading]:
        """Read these tags now, in one request.

        Raises:
            ConnectionFault: nothing could be read.
        """

    async def execute(
        self, command: Command, *, command_sha256: str, epoch: int, ttl_s: float, timeout_s: float
    ) -> Outcome:
        """Send once. `Unknown` if no answer came in time: it may have acted."""

    async def query(self, command_id: str, *, epoch: int, timeout_s: float) -> Outcome:
        """Ask what became of a command; also fences every lower epoch."""


class Notifier(Protocol):
    """Reaches a person."""

    name: str

    async def notify(self, title: str, text: str, *, urgent: bool) -> None:
        """Deliver.

        Raises:
            ConnectionFault: it could not.
        """


class Clock(Protocol):
    """Agent time."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""

    async def sleep_until(self, at_us: int) -> None:
        """Return when `now_us() >= at_us`."""
