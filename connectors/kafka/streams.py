"""`streams.toml` checked against the plant, with its paths taken apart: what `mapping` works with. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.kafka.instants import zone_of
from schemas.errors import ConfigError
from schemas.plant import Cell, Plant
from schemas.streams import ROOT, Stream, Streams, StreamState, StreamText, StreamValue, Where, steps
from schemas.topics import TOPICS

FILE = "streams.toml"


@dataclass(frozen=True, slots=True)
class Place:
    """A path, taken apart."""

    from_message: bool
    steps: tuple[str | int, ...]

    def find(self, record: Any, message: Any) -> Any:
        """Return what is there; None: nothing, or JSON's null."""
        there = message if self.from_message else record
        for step in self.steps:
            if isinstance(step, int):
                there = there[step] if isinstance(there, list) and step < len(there) else None
            else:
                there = there.get(step) if isinstance(there, dict) else None
        return there


@dataclass(frozen=True, slots=True)
class Condition:
    """A `where`, taken apart."""

    place: Place
    key: str

    def holds(self, record: Any, message: Any) -> bool:
        """Tell whether it holds for a record."""
        return word_key(self.place.find(record, message)) == self.key


@dataclass(frozen=True, slots=True)
class ValueField:
    """An entry of `values` with the tag's id."""

    value: StreamValue
    tag_id: int
    place: Place
    unit_place: Place | None


@dataclass(frozen=True, slots=True)
class EventField:
    """A `state` or `text`."""

    place: Place
    condition: Condition | None

    def applies(self, record: Any, message: Any) -> bool:
        """Tell whether a record says it."""
        if self.condition is not None and not self.condition.holds(record, message):
            return False
        return self.place.find(record, message) is not None


@dataclass(frozen=True, slots=True)
class StreamMapping:
    """An entry of `streams.toml`, ready for messages."""

    stream: Stream
    cell: Cell
    where: Condition | None
    each: Place | None
    time: Place
    status: Place | None
    plain: tuple[ValueField, ...]
    """Values without a `where`."""
    chosen: Mapping[Place, Mapping[str, tuple[ValueField, ...]]]
    """Values with one: by where to look, and what is there."""
    state: EventField | None
    text: EventField | None

    def fields_for(self, record: Any, message: Any) -> list[ValueField]:
        """Return the values that a record has. A value chosen by `where` counts as there, even if it is null."""
        found = [field for field in self.plain if field.place.find(record, message) is not None]
        for place, by_word in self.chosen.items():
            found += by_word.get(word_key(place.find(record, message)), ())
        return found


def word_key(word: Any) -> str:
    """Return a JSON scalar as text, so that a table of TOML keys can be asked for it.

    >>> word_key("3"), word_key(3), word_key(True)
    ('3', '3', 'true')
    """
    if isinstance(word, bool):
        return "true" if word else "false"
    if isinstance(word, float) and word.is_integer():
        return str(int(word))
    return str(word) if isinstance(word, (str, int, float)) else ""


def checked(streams: Streams, plant: Plant) -> tuple[StreamMapping, ...]:
    """Check every entry against the plant.

    Raises:
        ConfigError: unknown cell, tag or zone, another unit than the tag's, or one of our own topics.
    """
    return tuple(_checked(number, stream, plant) for number, stream in enumerate(streams.streams))


def _checked(number: int, stream: Stream, plant: Plant) -> StreamMapping:
    field = f"streams.{number}"
    cell = next((cell for cell in plant.cells if cell.id == stream.cell), None)
    if cell is None:
        raise ConfigError(FILE, f"{field}.cell", f"plant.toml has no cell {stream.cell!r}", "Correct the name")
    if stream.topic in {topic.name for topic in TOPICS}:
        problem = f"{stream.topic!r} is one of the agent's own topics"
        raise ConfigError(FILE, f"{field}.topic", problem, "Name the plant's topic")
    try:
        zone_of(stream.time.zone)
    except ValueError as error:
        raise ConfigError(FILE, f"{field}.time.zone", str(error), "Correct the zone") from error
    fields = [_value(f"{field}.values.{n}", value, cell) for n, value in enumerate(stream.values)]
    return StreamMapping(
        stream,
        cell,
        where=_condition(stream.where),
        each=_place(stream.each),
        time=_required(stream.time.path),
        status=_place(stream.status.path) if stream.status else None,
        plain=tuple(each for each in fields if each.value.where is None),
        chosen=_by_word([each for each in fields if each.value.where is not None]),
        state=_event(stream.state),
        text=_event(stream.text),
    )


def _value(field: str, value: StreamValue, cell: Cell) -> ValueField:
    tag = next((tag for tag in cell.tags if tag.name == value.tag), None)
    if tag is None or tag.minus is not None:
        what = "no tag" if tag is None else "only a derived tag"
        problem = f"cell {cell.id!r} has {what} {value.tag!r}"
        raise ConfigError(FILE, f"{field}.tag", problem, "Correct the name, or add the tag to plant.toml")
    if tag.unit != value.unit:
        problem = f"{value.tag} comes in {value.unit!r} and the tag is in {tag.unit!r}"
        raise ConfigError(FILE, f"{field}.unit", problem, "Write both in the same unit; nothing is converted")
    return ValueField(value, tag.id, _required(value.path), _place(value.unit_path))


def _by_word(fields: Sequence[ValueField]) -> dict[Place, dict[str, tuple[ValueField, ...]]]:
    chosen: dict[Place, dict[str, tuple[ValueField, ...]]] = {}
    for field in fields:
        condition = _condition(field.value.where)
        assert condition is not None
        by_word = chosen.setdefault(condition.place, {})
        by_word[condition.key] = (*by_word.get(condition.key, ()), field)
    return chosen


def _event(event: StreamState | StreamText | None) -> EventField | None:
    return None if event is None else EventField(_required(event.path), _condition(event.where))


def _condition(where: Where | None) -> Condition | None:
    return None if where is None else Condition(_required(where.path), word_key(where.equals))


def _place(path: str | None) -> Place | None:
    return None if path is None else _required(path)


def _required(path: str) -> Place:
    return Place(path.startswith(ROOT), steps(path))
