"""Inputs of a cell as messages on `telemetry.v1`, and back. Pure.

CloudEvents 1.0 in Kafka's binary binding: what a message is stands in its headers, the value is the columns of a batch
as an Arrow stream, or JSON. Whatever does not say the same in key, headers and value is refused with a `CodecError`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from connectors.eventlog.batches import decode_columns, encode_columns
from schemas.errors import CodecError
from schemas.plant import Cell
from schemas.samples import Control, Gap, Input, LineEvent, SampleBatch, Tick

TYPES: Final[Mapping[type, str]] = {
    SampleBatch: "jidoka.samples/1",
    LineEvent: "jidoka.line/1",
    Gap: "jidoka.gap/1",
    Tick: "jidoka.tick/1",
    Control: "jidoka.control/1",
}
"""`ce_type` by the type of the input."""
SPEC_VERSION: Final = b"1.0"
ARROW: Final = b"application/vnd.apache.arrow.stream"
JSON: Final = b"application/json"
VALUE_BYTES_MAX: Final = 900_000
"""Of one message: below what a broker takes unless told otherwise (1,048,588 bytes with headers)."""

_Other = LineEvent | Gap | Tick | Control
_KINDS: Final = {name.encode(): kind for kind, name in TYPES.items()}
_CELL: Final = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+){4}")
_SHA256: Final = re.compile(rb"[0-9a-f]{64}")
_NUMBER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_I64: Final = range(-(2**63), 2**63)
_COUNT: Final = range(2**63)
_U32: Final = range(2**32)
_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER: msgspec.json.Decoder[_Other] = msgspec.json.Decoder(LineEvent | Gap | Tick | Control)


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is given to a broker; its partition follows from the key."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """An input as it came out of the topic."""

    cell: str
    at: int
    """Agent time at which the collector took it, microseconds since 1970 UTC; never goes back within a cell."""
    input: Input
    tags_sha256: str
    """Of the tag table by which the collector numbered the tags; see `tag_table_sha256`."""


def tag_table_sha256(cell: Cell) -> str:
    """Return the hash of a cell's tag table: id, name and unit of each tag in the order of `plant.toml`."""
    table = [(tag.id, tag.name, tag.unit) for tag in cell.tags]
    return hashlib.sha256(_ENCODER.encode(table)).hexdigest()


def encode_message(cell: str, at: int, item: Input, tags_sha256: str) -> Message:
    """Return the message for one input.

    Args:
        cell: Path of the cell.
        at: Agent time of taking it, microseconds since 1970 UTC.
        item: The input, with its source, epoch and seq.
        tags_sha256: `tag_table_sha256` of the cell.

    Raises:
        CodecError: no message could carry it: the batch is too large, or a number is out of range.
    """
    own: tuple[tuple[str, bytes], ...] = ()
    if isinstance(item, SampleBatch):
        value, content, own = encode_columns(item), ARROW, _about(item)
    else:
        value, content = _ENCODER.encode(_checked(item)), JSON
    if len(value) > VALUE_BYTES_MAX:
        raise CodecError(f"{item.source}: a message of {len(value)} bytes, {VALUE_BYTES_MAX} is the most: split it")
    if not (item.source and _within(_COUNT, item.epoch, item.seq) and _within(_I64, at) and _CELL.fullmatch(cell)):
        raise CodecError(f"cell {cell!r}, at {at}, source {item.source!r} {item.epoch}/{item.seq}: out of range")
    headers = (
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", f"{item.source}/{item.epoch}/{item.seq}".encode()),
        ("ce_source", item.source.encode()),
        ("ce_type", TYPES[type(item)].encode()),
        ("content-type", content),
        ("epoch", b"%d" % item.epoch),
        ("seq", b"%d" % item.seq),
        ("at", b"%d" % at),
        ("tags", tags_sha256.encode()),
        ("sha256", hashlib.sha256(value).hexdigest().encode()),
        *own,
    )
    return Message(cell.encode(), value, headers)


def decode_message(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None
) -> Arrived:
    """Read what `encode_message` wrote. Headers that are not ours are passed over.

    Raises:
        CodecError: anything else; says what is wrong.
    """
    if key is None or value is None:
        raise CodecError("a message without key or without value")
    said = _distinct(headers or ())
    kind = _KINDS.get(said["ce_type"])
    if kind is None or said["ce_specversion"] != SPEC_VERSION:
        raise CodecError(f"ce_type {said['ce_type'][:40]!r} with ce_specversion {said['ce_specversion'][:10]!r}")
    if said["content-type"] != (ARROW if kind is SampleBatch else JSON):
        raise CodecError(f"content-type {said['content-type'][:60]!r} of {TYPES[kind]}")
    if said["sha256"] != hashlib.sha256(value).hexdigest().encode():
        raise CodecError("the value is not what header sha256 says")
    if not _SHA256.fullmatch(said["tags"]):
        raise CodecError(f"header tags {said['tags'][:70]!r} is no SHA-256")
    cell, source = _text(key, "key"), _text(said["ce_source"], "header ce_source")
    epoch, seq, at = _number(said, "epoch", _COUNT), _number(said, "seq", _COUNT), _number(said, "at", _I64)
    if not source or not _CELL.fullmatch(cell):
        raise CodecError(f"key {cell[:100]!r} is no cell's path, or the source has no name")
    if said["ce_id"] != f"{source}/{epoch}/{seq}".encode():
        raise CodecError(f"ce_id {said['ce_id'][:100]!r} is not {source[:60]}/{epoch}/{seq}")
    item = _batch(value, said, source, epoch, seq) if kind is SampleBatch else _other(value, kind, source, epoch, seq)
    return Arrived(cell, at, item, said["tags"].decode())


_WANTED: Final = frozenset({
    "ce_specversion", "ce_id", "ce_source", "ce_type", "content-type", "epoch", "seq", "at", "tags", "sha256",
})  # fmt: skip
_OF_BATCH: Final = frozenset({"n", "first_at", "last_at"})
_OURS: Final = _WANTED | _OF_BATCH


def _about(batch: SampleBatch) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that only a batch has; of an empty one both times are 0."""
    first_at, last_at = (int(batch.source_at.min()), int(batch.source_at.max())) if len(batch) else (0, 0)
    return ("n", b"%d" % len(batch)), ("first_at", b"%d" % first_at), ("last_at", b"%d" % last_at)


def _distinct(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, bytes]:
    """Return our headers by name, each there once."""
    said: dict[str, bytes] = {}
    for name, content in headers:
        if name not in _OURS:
            continue
        if name in said or not isinstance(content, bytes):
            raise CodecError(f"header {name} is there twice, or empty")
        said[name] = content
    if missing := _WANTED - said.keys():
        raise CodecError(f"header {min(missing)} is missing")
    return said


def _number(said: Mapping[str, bytes], name: str, within: range) -> int:
    raw = said.get(name, b"")
    if not _NUMBER.fullmatch(raw) or int(raw) not in within:
        raise CodecError(f"header {name} {raw[:30]!r} is no number in its range")
    return int(raw)


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"{what} is not UTF-8") from error


def _batch(value: bytes, said: Mapping[str, bytes], source: str, epoch: int, seq: int) -> SampleBatch:
    batch = decode_columns(value, source=source, epoch=epoch, seq=seq)
    for name, content in _about(batch):
        if said.get(name) != content:
            raise CodecError(f"header {name} is {said.get(name, b'')[:30]!r}, the samples say {content!r}")
    return batch


def _other(value: bytes, kind: type, source: str, epoch: int, seq: int) -> _Other:
    try:
        item = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"the value is no {TYPES[kind]}: {error}") from error
    if type(item) is not kind or (item.source, item.epoch, item.seq) != (source, epoch, seq):
        raise CodecError(f"the headers say {TYPES[kind]} {source[:60]}/{epoch}/{seq}, the value says another")
    return _checked(item)


def _checked(item: _Other) -> _Other:
    """Refuse numbers with which nobody can calculate: JSON knows no bounds, arrays do."""
    match item:
        case LineEvent():
            sound = _within(_I64, item.source_at, item.value)
        case Gap():
            sound = _within(_I64, item.from_at, item.until_at) and _within(_U32, *item.tags)
        case Tick():
            sound = _within(_I64, item.complete_until) and _within(_U32, *item.stale)
        case Control():
            sound = math.isfinite(item.settle_s) and _within(_I64, item.until_at) and _within(_U32, *item.tags)
    if not sound:
        raise CodecError(f"{TYPES[type(item)]} {item.source[:60]}/{item.epoch}/{item.seq}: a number is out of range")
    return item


def _within(bounds: range, *numbers: int) -> bool:
    """Tell whether all are in a range; its own `in` would walk through it for an IntEnum's or numpy's number."""
    return all(bounds.start <= number < bounds.stop for number in numbers)
