"""Takes what collectors give into the spool: numbered, never going back in time, and honest about what found no room.

A number within a source is given when a message is written, so what is lost leaves no hole in the numbers: it leaves a
Gap, which goes out before anything that comes after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, assert_never

import msgspec

from connectors.kafka.codec import Message, encode_message
from connectors.kafka.spool import Spool
from schemas.samples import Control, Gap, Input, LineEvent, SampleBatch, Tick

SPOOL_FULL: Final = "spool full"
NOT_RUNNING: Final = "the collector was not running"


@dataclass(slots=True)
class Taken:
    """What came in since the start."""

    messages_n: int = 0
    samples_n: int = 0
    lost_messages_n: int = 0
    """Of any kind, for want of room."""
    lost_samples_n: int = 0
    gaps_n: int = 0
    """Told because of that, or because the collector had not been running."""


@dataclass(slots=True)
class _Lost:
    """A stretch of which there is nothing in the spool, and nobody was told yet."""

    from_at: int
    until_at: int
    reason: str


@dataclass(slots=True)
class _Source:
    """What the next message of a source must bear."""

    epoch: int
    seq: int
    lost: _Lost | None


class Intake:
    """The way into a spool, for all cells of a process."""

    def __init__(self, spool: Spool, tags_sha256: Mapping[str, str], *, resuming: Collection[str] = ()) -> None:
        """Go on where the spool ended.

        Args:
            spool: Open.
            tags_sha256: By cell path, `tag_table_sha256` of its tags.
            resuming: Sources that read on where they ended, and tell themselves what is lost to them: for the others
                all is lost that came while nobody collected.
        """
        self._spool, self._tags, self._resuming = spool, tags_sha256, frozenset(resuming)
        self._sources: dict[str, _Source] = {}
        self._last_at: dict[str, int] = {}
        for head in spool.heads.values():
            self._last_at[head.cell] = max(head.at, self._last_at.get(head.cell, head.at))
        self.counters = Taken()

    def take(self, cell: str, at: int, item: Input) -> bool:
        """Write one input, after the gap of what was lost before it.

        Args:
            cell: Path.
            at: Agent time, microseconds since 1970 UTC; where it is earlier than the cell's last, that one is used.
            item: Its epoch and seq are replaced.

        Returns:
            Whether it is in the spool; False: there was no room, and it is counted and will be told as a gap.

        Raises:
            LogHalted: the disk failed.
            CodecError: it can be no message.
        """
        at = max(at, self._last_at.get(cell, at))
        source = self._sources.get(item.source) or self._begin(item.source, at)
        messages = self._messages(cell, at, item, source)
        if not self._spool.fits(messages, small=not isinstance(item, SampleBatch)):
            self._lose(item, at, source)
            return False
        for message in messages:
            self._spool.append(message)
        self._last_at[cell] = at
        source.seq += len(messages)
        self.counters.gaps_n += source.lost is not None
        source.lost = None
        self.counters.messages_n += 1
        self.counters.samples_n += len(item) if isinstance(item, SampleBatch) else 0
        return True

    def _begin(self, name: str, at: int) -> _Source:
        """Return a source as the spool knows it; what it gave while nobody collected is lost."""
        head, epoch = self._spool.heads.get(name), self._spool.epoch
        missed = head is not None and name not in self._resuming
        lost = _Lost(head.at, max(head.at, at), NOT_RUNNING) if head is not None and missed else None
        seq = head.seq + 1 if head is not None and head.epoch == epoch else 0
        source = self._sources[name] = _Source(epoch, seq, lost)
        return source

    def _messages(self, cell: str, at: int, item: Input, source: _Source) -> list[Message]:
        """Return what is to be written: the gap of what was lost, if anything was, and the input."""
        tags, seq, messages = self._tags[cell], source.seq, []
        if (lost := source.lost) is not None:
            gap = Gap(item.source, source.epoch, seq, (), lost.from_at, lost.until_at, lost.reason)
            messages, seq = [encode_message(cell, at, gap, tags)], seq + 1
        return [*messages, encode_message(cell, at, numbered(item, source.epoch, seq), tags)]

    def _lose(self, item: Input, at: int, source: _Source) -> None:
        from_at, until_at = at, at
        self.counters.lost_messages_n += 1
        if isinstance(item, SampleBatch) and len(item):
            self.counters.lost_samples_n += len(item)
            from_at, until_at = int(item.source_at.min()), int(item.source_at.max())
        elif isinstance(item, Gap):
            from_at, until_at = item.from_at, item.until_at
        before = source.lost or _Lost(from_at, until_at, SPOOL_FULL)
        source.lost = _Lost(min(before.from_at, from_at), max(before.until_at, until_at), before.reason)


def numbered(item: Input, epoch: int, seq: int) -> Input:
    """Return the input with another number."""
    if isinstance(item, SampleBatch):
        return replace(item, epoch=epoch, seq=seq)
    numbers = {"epoch": epoch, "seq": seq}
    match item:
        case LineEvent():
            return msgspec.structs.replace(item, **numbers)
        case Gap():
            return msgspec.structs.replace(item, **numbers)
        case Tick():
            return msgspec.structs.replace(item, **numbers)
        case Control():
            return msgspec.structs.replace(item, **numbers)
    assert_never(item)
