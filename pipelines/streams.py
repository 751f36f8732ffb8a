"""Reads `streams.toml`, and tells what it understands of messages: the dry run of `jidoka streams check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from connectors.kafka.mapping import Mapped, MappedEvent, MappedSample, NotOurs, Unmappable, map_message
from connectors.kafka.streams import FILE, StreamMapping, checked
from pipelines.config import Configuration, parse, read_file
from schemas.errors import RecordingError
from schemas.streams import Streams


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a plant's topic, from a broker or a file."""

    place: str
    """Partition and offset, or the line of a file."""
    topic: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the dry run: something that was understood, or why not."""

    place: str
    cell: str
    found: MappedSample | MappedEvent | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Understood:
    """What the dry run found."""

    rows: tuple[Row, ...]
    messages_n: int
    used_n: int
    """Messages that gave at least one sample or event."""
    refused_n: int
    """Messages of which nothing could be used."""
    not_ours_n: int
    """Messages that no entry is about."""
    samples: Counter[str]
    """By tag."""
    events_n: int
    problems_n: int
    """In messages that could be used otherwise."""
    silent: tuple[str, ...]
    """Tags that are mapped and did not come."""

    @property
    def clean(self) -> bool:
        """Whether everything that came was understood, and something was."""
        return self.used_n > 0 and not (self.refused_n or self.problems_n)


def load_streams(configuration: Configuration) -> tuple[StreamMapping, ...]:
    """Read `streams.toml` of a configuration folder and check it against the plant.

    Raises:
        ConfigError: it is missing, not of its schema, or contradicts `plant.toml`.
    """
    files = configuration.files if FILE in configuration.files else {FILE: read_file(configuration.folder / FILE)}
    return checked(parse(FILE, files, Streams), configuration.plant)


def streams_by_cell(configuration: Configuration) -> dict[str, tuple[StreamMapping, ...]]:
    """Return the entries of `streams.toml` by cell id, of cells that have any; without the file, none.

    Raises:
        ConfigError: as `load_streams`.
    """
    if FILE not in configuration.files:
        return {}
    entries = load_streams(configuration)
    return {cell: tuple(e for e in entries if e.cell.id == cell) for cell in dict.fromkeys(e.cell.id for e in entries)}


def understand(mappings: Sequence[StreamMapping], messages: Iterable[Message]) -> Understood:
    """Map every message by every entry of its topic, and count."""
    rows: list[Row] = []
    samples: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for message in messages:
        found = [row for mapping in mappings for row in _rows(mapping, message)]
        rows += found
        said = [row for row in found if row.found is not None]
        samples.update(row.found.tag for row in said if isinstance(row.found, MappedSample))
        count["messages"] += 1
        count["events"] += sum(isinstance(row.found, MappedEvent) for row in said)
        count["used" if said else "refused" if found else "not ours"] += 1
        count["problems"] += len(found) - len(said) if said else 0
    wanted = [value.tag for mapping in mappings for value in mapping.stream.values]
    return Understood(
        tuple(rows),
        count["messages"],
        count["used"],
        count["refused"],
        count["not ours"],
        samples,
        count["events"],
        count["problems"],
        tuple(tag for tag in dict.fromkeys(wanted) if tag not in samples),
    )


def _rows(mapping: StreamMapping, message: Message) -> Iterator[Row]:
    if mapping.stream.topic != message.topic:
        return
    cell = mapping.cell.id
    match map_message(mapping, message.key, message.value):
        case Mapped(samples, events, problems):
            yield from (Row(message.place, cell, sample) for sample in samples)
            yield from (Row(message.place, cell, event) for event in events)
            yield from (Row(message.place, cell, None, problem) for problem in problems)
        case Unmappable(reason):
            yield Row(message.place, cell, None, reason)
        case NotOurs():
            return


def read_messages(path: Path, topics: Sequence[str], last_n: int) -> list[Message]:
    """Read messages from a file of lines.

    A line is an object with `topic`, `key` and `value` (JSON) or `payload` (text, as kcat -J writes it); any other line
    is itself the value of a message of the only topic.

    Raises:
        RecordingError: the file cannot be read, or a line names no topic where there are several.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RecordingError(str(path), "file", f"cannot be read: {error.strerror}", "Correct the name") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    return [_message(path, number, line, topics) for number, line in numbered[-last_n:]]


def _message(path: Path, number: int, line: bytes, topics: Sequence[str]) -> Message:
    place = f"line {number}"
    try:
        whole = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        whole = None
    if isinstance(whole, dict) and "topic" in whole and ("value" in whole or "payload" in whole):
        key = whole.get("key")
        return Message(place, str(whole["topic"]), None if key is None else str(key).encode(), _value(whole))
    if len(set(topics)) > 1:
        remedy = 'Write {"topic": ..., "key": ..., "value": ...}'
        raise RecordingError(str(path), place, f"no topic, and {FILE} has several", remedy)
    return Message(place, topics[0], None, line)


def _value(whole: dict[str, object]) -> bytes | None:
    if "payload" in whole:
        return None if whole["payload"] is None else str(whole["payload"]).encode()
    return msgspec.json.encode(whole["value"])
