"""Kept input as frames of bytes: `[length u32][crc32 u32][payload]`, little-endian. Pure.

The checksum covers the length too, so no length is believed that was torn. The payload begins with the input's position
and with the last position that was known to be on the disk when the frame was written: so that after a power cut a
frame that was never synced, and may be torn, is told from one that was, and was damaged since.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from connectors.eventlog.batches import decode_batch, encode_batch
from schemas.errors import CodecError
from schemas.samples import Control, Gap, Kept, LineEvent, SampleBatch, Tick

_FRAME = struct.Struct("<II")
"""Length of the payload, CRC-32 of that length and the payload."""
_LENGTH = struct.Struct("<I")
_PAYLOAD = struct.Struct("<QQqB")
"""Position, last position synced before, agent time in µs, kind; the body follows."""
_BATCH, _OTHER = 1, 2

_MAGIC = b"JDKSEG\r\n"
"""The line end shows a transfer that rewrites text."""
_FORMAT = 1
_FILE = struct.Struct("<8sHH")
"""Magic, format, length of the cell's name. Follow: a CRC-32 of these, the name, a CRC-32 of the name."""
_NAME_AT = _FILE.size + _LENGTH.size

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(LineEvent | Gap | Tick | Control)


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame, its body not decoded."""

    position: int
    synced: int
    """Last position that was on the disk for sure when this was written."""
    end: int
    """Offset after the frame."""
    payload: memoryview


def file_header(cell: str) -> bytes:
    """Return the bytes that a segment file begins with."""
    name = cell.encode()
    fixed = _FILE.pack(_MAGIC, _FORMAT, len(name))
    return fixed + _LENGTH.pack(zlib.crc32(fixed)) + name + _LENGTH.pack(zlib.crc32(name))


def read_file_header(data: bytes) -> tuple[str, int] | None:
    """Return the cell and the offset of the first frame; None: the file ends within its header.

    Raises:
        CodecError: this is no segment file, or one of another format.
    """
    if len(data) < _NAME_AT:
        return None
    magic, version, name_bytes_n = _FILE.unpack_from(data)
    if magic != _MAGIC or _crc_at(data, _FILE.size) != zlib.crc32(data[: _FILE.size]):
        raise CodecError("the file does not begin as a segment")
    if version != _FORMAT:
        raise CodecError(f"segment format {version}, this program reads {_FORMAT}")
    end = _NAME_AT + int(name_bytes_n)
    if len(data) < end + _LENGTH.size:
        return None
    name = data[_NAME_AT:end]
    if _crc_at(data, end) != zlib.crc32(name):
        raise CodecError("the checksum of the cell's name does not hold")
    return name.decode(), end + _LENGTH.size


def _crc_at(data: bytes, offset: int) -> int:
    return int(_LENGTH.unpack_from(data, offset)[0])


def encode_frame(kept: Kept, *, synced: int) -> bytes:
    """Return the input as a frame."""
    if isinstance(kept.input, SampleBatch):
        kind, body = _BATCH, encode_batch(kept.input)
    else:
        kind, body = _OTHER, _ENCODER.encode(kept.input)
    return pack_frame(kept.position, synced=synced, at_us=kept.at_us, kind=kind, body=body)


def pack_frame(position: int, *, synced: int, at_us: int, kind: int, body: bytes) -> bytes:
    """Return a frame of any kind; `encode_frame` uses 1 and 2."""
    payload = _PAYLOAD.pack(position, synced, at_us, kind) + body
    length = _LENGTH.pack(len(payload))
    return length + _LENGTH.pack(zlib.crc32(payload, zlib.crc32(length))) + payload


def unpack_frame(frame: Frame) -> tuple[int, memoryview]:
    """Return kind and body of a whole frame."""
    return int(_PAYLOAD.unpack_from(frame.payload)[3]), frame.payload[_PAYLOAD.size :]


def frame_at(data: memoryview, offset: int) -> Frame | None:
    """Return the frame that begins at `offset`; None: there is no whole one."""
    if offset + _FRAME.size > len(data):
        return None
    length, crc = _FRAME.unpack_from(data, offset)
    begin, end = offset + _FRAME.size, offset + _FRAME.size + length
    if length < _PAYLOAD.size or end > len(data):
        return None
    if zlib.crc32(data[begin:end], zlib.crc32(data[offset : offset + _LENGTH.size])) != crc:
        return None
    position, synced, _, _ = _PAYLOAD.unpack_from(data, begin)
    return Frame(position, synced, end, data[begin:end])


def decode_frame(frame: Frame) -> Kept:
    """Return the input in a frame.

    Raises:
        CodecError: the checksum holds, but it is no input that we know.
    """
    position, _, at_us, kind = _PAYLOAD.unpack_from(frame.payload)
    body = bytes(frame.payload[_PAYLOAD.size :])
    if kind == _BATCH:
        return Kept(position, at_us, decode_batch(body))
    if kind != _OTHER:
        raise CodecError(f"input {position} is of kind {kind}, which this program does not know")
    try:
        return Kept(position, at_us, _DECODER.decode(body))
    except msgspec.DecodeError as error:
        raise CodecError(f"input {position}: {error}") from error


def synced_beyond(data: memoryview, offset: int, last: int) -> bool:
    """Tell whether a later frame says that something after position `last` was on the disk.

    Looked for is any whole frame at any offset from `offset` on, since a damaged length hides where frames begin.
    """
    for begin, position, synced in _seeming_frames(data, offset):
        if last < synced < position and frame_at(data, begin) is not None:
            return True
    return False


def next_frame(data: memoryview, offset: int, last: int) -> int | None:
    """Return where the first whole frame of a position after `last` begins, at any offset; None: there is none."""
    for begin, position, synced in _seeming_frames(data, offset):
        # A frame takes more than one byte: a position further on than there are bytes is none.
        if last < position < last + len(data) and synced < position and frame_at(data, begin) is not None:
            return begin
    return None


def _seeming_frames(data: memoryview, offset: int) -> Iterator[tuple[int, int, int]]:
    """Yield (offset, position, synced) wherever a frame may begin; most are none."""
    raw = np.frombuffer(data[offset:], dtype=np.uint8)
    starts_n = len(raw) - _FRAME.size - _PAYLOAD.size + 1
    if starts_n <= 0:
        return
    # Positions are far below 2**40: of random bytes, one in 16 million looks like one.
    at = _FRAME.size
    zeros = (raw[at + 5 : at + 5 + starts_n] == 0) & (raw[at + 6 : at + 6 + starts_n] == 0)
    zeros &= raw[at + 7 : at + 7 + starts_n] == 0
    for start in np.flatnonzero(zeros):
        begin = offset + int(start)
        position, synced, _, _ = _PAYLOAD.unpack_from(data, begin + _FRAME.size)
        yield begin, position, synced
