"""What a spool's folder holds of the last time, read whole at its opening. Writes nothing.

Every message that was synced and cannot be read any more gets a gap in its place, so that a hole in what a source
numbered is told and never silently closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connectors.kafka.codec import Message, encode_message
from connectors.kafka.spoolfiles import (
    Head,
    Note,
    Scanned,
    SpoolFile,
    Stored,
    head_of,
    read_message,
    read_note,
    scan,
    spool_path,
    spool_starts,
)
from schemas.errors import CodecError, LogCorrupt
from schemas.samples import Gap

PATCHES_MAX: Final = 100_000
"""Lost messages, one after the other, of which each gets a gap in its place."""
_DAMAGED: Final = "the spool was damaged"


@dataclass(slots=True)
class Found:
    """What is left of the last time."""

    note: Note | None
    """None: there is none, since the folder is new or somebody moved the note away."""
    acknowledged: int = 0
    """Position up to which a broker has everything."""
    position: int = 0
    """Of the last message."""
    heads: dict[str, Head] = field(default_factory=dict)
    """By source: its last message."""
    files: list[SpoolFile] = field(default_factory=list)
    """All, in order."""
    patches: dict[int, Message] = field(default_factory=dict)
    """By position: what stands for a message that was lost."""
    damage: list[str] = field(default_factory=list)
    """What could not be read: file and offset."""
    torn_bytes: int = 0
    """What a crash had left behind the last whole message, never synced and never sent."""

    def next_epoch(self, first_epoch: int) -> int:
        """Return the epoch: kept while something waits to be sent, unless a number might be given twice.

        Args:
            first_epoch: For a new folder.
        """
        if self.note is None and not self.files:
            return first_epoch
        known = max([self.note.epoch if self.note else 0, *(head.epoch for head in self.heads.values())])
        if self.note is None:
            return max(known + 1, first_epoch)
        return known + 1 if self.acknowledged >= self.position or self.damage or self.torn_bytes else known


def find(folder: Path) -> Found:
    """Read note and files.

    Raises:
        LogError: the note does not verify.
        LogCorrupt: a message verifies and is none that this program knows.
        OSError: the disk does not give them.
    """
    note, starts = read_note(folder), spool_starts(folder)
    found = Found(note)
    if note is not None:
        found.acknowledged, found.heads = note.acknowledged, dict(note.heads)
    elif starts:
        found.acknowledged = starts[0] - 1
    found.position = found.acknowledged
    free: list[int] = []
    for start in starts:
        path = spool_path(folder, start)
        scanned = scan(path, start, path.read_bytes(), newest=start == starts[-1])
        if start > found.position + 1:
            missing = f"messages {found.position + 1} to {start - 1} are missing before it"
            found.damage.append(f"{path} at byte 0: {missing}")
        _recall(found, scanned, free)
    return found


def _recall(found: Found, scanned: Scanned, free: list[int]) -> None:
    """Take over what a file holds, and put gaps in the place of what it lost.

    Args:
        found: What the files before it hold.
        scanned: The file.
        free: Positions that were lost so far and have no gap yet.
    """
    found.files.append(scanned.file)
    found.damage += scanned.damage
    found.torn_bytes += scanned.torn_bytes
    for frame in scanned.frames:
        if frame.position <= found.acknowledged:
            continue
        try:
            stored = read_message(frame)
            source, head = head_of(stored.message)
        except CodecError as error:
            raise LogCorrupt(frame.position, "spool", f"{scanned.file.path}: {error}") from error
        free += range(max(found.position + 1, stored.position - PATCHES_MAX), stored.position)
        _patch(found, stored, source, head, free)
        found.position, found.heads[source] = stored.position, head


def _patch(found: Found, stored: Stored, source: str, head: Head, free: list[int]) -> None:
    """Put a gap into the place of every message that this source has lost before `stored`."""
    before = found.heads.get(source)
    next_seq = before.seq + 1 if before is not None and before.epoch == head.epoch else 0
    from_at = before.at if before is not None else min((h.at for h in found.heads.values()), default=head.at)
    tags = dict(stored.message.headers)["tags"].decode()
    for seq in range(next_seq, min(head.seq, next_seq + len(free))):
        gap = Gap(source, head.epoch, seq, (), from_at, max(from_at, head.at), _DAMAGED)
        found.patches[free.pop(0)] = encode_message(head.cell, head.at, gap, tags)
