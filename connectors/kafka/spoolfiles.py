"""The files of a spool: what a file of messages holds and what damage left of it, and the note beside them. No writing.

`spool-<first position, 20 digits>.jk` is a header and frames as in `connectors.eventlog.frames`. `spool.note` says up
to which position a broker has acknowledged, and how far every source had come there.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from connectors.eventlog.frames import Frame, file_header, frame_at, next_frame, read_file_header, synced_beyond
from connectors.eventlog.frames import pack_frame as pack
from connectors.eventlog.frames import unpack_frame as unpack
from connectors.kafka.codec import Message
from schemas.errors import CodecError, LogError

HEADER: Final = file_header("collector's spool")
MESSAGE: Final = 3
"""Kind of a frame that is a message; 1 and 2 are kept inputs."""
NOTE: Final = "spool.note"

_NAME = re.compile(r"spool-(\d{20})\.jk")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a source has come: its last message."""

    cell: str
    epoch: int
    seq: int
    at: int
    """Agent time, microseconds since 1970 UTC."""


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands beside the files."""

    acknowledged: int
    """Position up to which a broker has everything."""
    epoch: int
    """Of the collector when this was written."""
    heads: dict[str, Head]
    """By source, as of `acknowledged`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message with its place in the spool."""

    position: int
    message: Message


@dataclass(slots=True)
class SpoolFile:
    """What is known of a file."""

    path: Path
    first: int
    """Position that its name says."""
    last: int
    """Of its last whole frame; `first - 1`: it has none."""
    size: int
    spans: list[tuple[int, int]]
    """Where whole frames lie, from and until; more than one where something is damaged between."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file that was read whole."""

    file: SpoolFile
    frames: list[Frame]
    damage: tuple[str, ...]
    """What was written and cannot be read; empty: nothing."""
    torn_bytes: int
    """Behind the last whole frame of the newest file: what a crash left of frames that were never synced."""


def spool_starts(folder: Path) -> list[int]:
    """Return the first position of every file, ascending."""
    return sorted(int(match[1]) for name in os.listdir(folder) if (match := _NAME.fullmatch(name)))


def spool_path(folder: Path, first: int) -> Path:
    """Return where the file that begins at a position lies."""
    return folder / f"spool-{first:020d}.jk"


def message_frame(stored: Stored, *, at: int, synced: int) -> bytes:
    """Return a message as a frame."""
    return pack(stored.position, synced=synced, at_us=at, kind=MESSAGE, body=_ENCODER.encode(stored.message))


def read_message(frame: Frame) -> Stored:
    """Return the message in a whole frame.

    Raises:
        CodecError: the checksum holds, but it is no message.
    """
    kind, body = unpack(frame)
    try:
        if kind == MESSAGE:
            return Stored(frame.position, _DECODER.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"message {frame.position} of the spool: {error}") from error
    raise CodecError(f"message {frame.position} of the spool is of kind {kind}, which this program does not know")


def head_of(message: Message) -> tuple[str, Head]:
    """Return a message's source, and that source's head after it.

    Raises:
        CodecError: it was not made by `encode_message`.
    """
    said = dict(message.headers)
    try:
        source, cell = said["ce_source"].decode(), message.key.decode()
        return source, Head(cell, int(said["epoch"]), int(said["seq"]), int(said["at"]))
    except (KeyError, ValueError) as error:
        raise CodecError(f"a message of the spool lacks its headers: {error}") from error


def scan(path: Path, first: int, data: bytes, *, newest: bool) -> Scanned:
    """Find the whole frames of a file, also beyond damage.

    Args:
        path: For what is said of damage.
        first: Position that the name says.
        data: All of the file.
        newest: Whether its end may be torn: what was never synced was never sent, and is no loss.
    """
    view, damage, spans, frames = memoryview(data), list[str](), list[tuple[int, int]](), list[Frame]()
    begin = end = _behind_header(path, data, damage, newest=newest)
    position = first - 1
    while end < len(data):
        frame = frame_at(view, end)
        if frame is not None and frame.position == position + 1:
            frames.append(frame)
            position, end = frame.position, frame.end
            continue
        spans.append((begin, end))
        behind = next_frame(view, end, position)
        if newest and not synced_beyond(view, end, position):
            return Scanned(SpoolFile(path, first, position, end, spans), frames, tuple(damage), len(data) - end)
        damage.append(f"{path} at byte {end}: message {position + 1} does not verify")
        begin = end = len(data) if behind is None else behind
        found = frame_at(view, end)
        position = position if found is None else found.position - 1
    spans.append((begin, end))
    return Scanned(SpoolFile(path, first, position, len(data), spans), frames, tuple(damage), 0)


def _behind_header(path: Path, data: bytes, damage: list[str], *, newest: bool) -> int:
    """Return where frames begin; 0 if the header cannot be read, and everything is searched for them."""
    if newest and len(data) < len(HEADER) and HEADER.startswith(data):
        return 0
    try:
        if read_file_header(data) is not None and data.startswith(HEADER):
            return len(HEADER)
    except CodecError:
        pass
    damage.append(f"{path} at byte 0: it does not begin as a spool file")
    return 0


def note_bytes(note: Note) -> bytes:
    """Return a note as the file that holds it: its hash on one line, and JSON."""
    text = msgspec.json.encode(note)
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n"


def read_note(folder: Path) -> Note | None:
    """Return the note of a spool; None: there is none.

    Raises:
        LogError: it does not verify.
    """
    path = folder / NOTE
    try:
        claimed, _, text = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    text = text.removesuffix(b"\n")
    try:
        if claimed == hashlib.sha256(text).hexdigest().encode():
            return msgspec.json.decode(text, type=Note)
    except msgspec.DecodeError:
        pass
    raise LogError(
        f"{path} at byte 0: it does not verify: move it away; then all that is in the spool is sent again, "
        "and receivers drop what they have"
    )
