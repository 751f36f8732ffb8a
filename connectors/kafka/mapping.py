"""A plant's own JSON messages to samples and line events, as `streams.toml` says. Pure: no broker, no clock.

Nothing is guessed and nothing converted: what is not understood is told with its reason, so that a dry run can show it
and a live source can put it aside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from connectors.kafka.instants import instant
from connectors.kafka.streams import StreamMapping, ValueField, word_key
from schemas.line import PackMLState
from schemas.samples import STATUS_GOOD
from schemas.streams import StreamStatus

RECORDS_MAX: Final = 10_000
"""Elements of a list in one message."""
SHOWN_MAX: Final = 60
"""Characters of a value in a reason."""
TEXT_MAX: Final = 500
"""Characters of a line event's text; the rest is cut."""
_DECODER = msgspec.json.Decoder()


Kind = Literal["no value", "not JSON", "list", "not mapped", "time", "status", "unit", "number", "state", "text"]
"""What is wrong, as one of few words; the reason itself has values of the message in it."""


class Reason(str):
    """Why something cannot be used, for people; `kind` is what it is counted by."""

    __slots__ = ("kind",)
    kind: Kind

    def __new__(cls, kind: Kind, text: str) -> Reason:
        """Say `text`."""
        reason = super().__new__(cls, text)
        reason.kind = kind
        return reason


@dataclass(frozen=True, slots=True)
class MappedSample:
    """A value that becomes a sample."""

    tag: str
    tag_id: int
    unit: str
    at: int
    """The plant's time, microseconds since 1970 UTC."""
    value: float
    """NaN only where `status` is not good."""
    status: int
    """StatusCode."""


@dataclass(frozen=True, slots=True)
class MappedEvent:
    """What the line did or said."""

    kind: Literal["packml.state", "changeover", "text"]
    at: int
    """The plant's time, microseconds since 1970 UTC."""
    state: int = 0
    """PackML number, for `packml.state`."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a message came to."""

    samples: tuple[MappedSample, ...]
    events: tuple[MappedEvent, ...]
    problems: tuple[Reason, ...] = ()
    """What else was in it and could not be used."""


@dataclass(frozen=True, slots=True)
class Unmappable:
    """A message of which nothing can be used."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class NotOurs:
    """A message that the entry is not about: by its key or content it is of another cell."""


Outcome = Mapped | Unmappable | NotOurs


class _Refused(ValueError):
    """Why a part of a message cannot be used."""

    def __init__(self, kind: Kind, text: str) -> None:
        self.reason = Reason(kind, text)
        super().__init__(text)


def map_message(mapping: StreamMapping, key: bytes | None, value: bytes | None) -> Outcome:
    """Understand one message by one entry of `streams.toml`."""
    if mapping.stream.key is not None and key != mapping.stream.key.encode():
        return NotOurs()
    if value is None:
        return Unmappable(Reason("no value", "no value: a message that only deletes"))
    try:
        message = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unmappable(Reason("not JSON", f"not JSON ({error}): {_shown(value.decode(errors='replace'))}"))
    if mapping.where is not None and not mapping.where.holds(message, message):
        return NotOurs()
    try:
        records = _records(mapping, message)
    except _Refused as refused:
        return Unmappable(refused.reason)
    return _gathered(mapping, message, records)


def _records(mapping: StreamMapping, message: Any) -> list[Any]:
    if mapping.each is None:
        return [message]
    records = mapping.each.find(message, message)
    if not isinstance(records, list):
        raise _Refused("list", f"each = {mapping.stream.each!r}: no list there{_offers(message)}")
    if len(records) > RECORDS_MAX:
        raise _Refused("list", f"each = {mapping.stream.each!r}: {len(records)} elements, {RECORDS_MAX} is the most")
    return records


def _gathered(mapping: StreamMapping, message: Any, records: Sequence[Any]) -> Outcome:
    samples: list[MappedSample] = []
    events: list[MappedEvent] = []
    problems: list[Reason] = []
    for number, record in enumerate(records):
        where = f"[{number}] " if mapping.each is not None else ""
        try:
            found = list(_understood(mapping, message, record))
        except _Refused as refused:
            found = [refused.reason]
        samples += [each for each in found if isinstance(each, MappedSample)]
        events += [each for each in found if isinstance(each, MappedEvent)]
        problems += [Reason(each.kind, where + each) for each in found if isinstance(each, Reason)]
    if not (samples or events):
        if mapping.stream.pass_over_unknown and not problems:
            return NotOurs()
        if not problems:
            return Unmappable(Reason("list", "an empty list"))
        return Unmappable(Reason(problems[0].kind, "; ".join(problems)))
    return Mapped(tuple(samples), tuple(events), tuple(problems))


def _understood(mapping: StreamMapping, message: Any, record: Any) -> Iterator[MappedSample | MappedEvent | Reason]:
    """Yield what a record comes to, and why the rest of it cannot be used."""
    fields = mapping.fields_for(record, message)
    state = mapping.state is not None and mapping.state.applies(record, message)
    text = mapping.text is not None and mapping.text.applies(record, message)
    if not (fields or state or text):
        if not mapping.stream.pass_over_unknown:
            raise _Refused("not mapped", f"nothing in it is mapped: {_shown(record)}")
        return
    at = _time(mapping, record, message)
    if fields:
        status = _status(mapping, record, message)
        for field in fields:
            try:
                yield _sample(field, field.place.find(record, message), record, message, at, status)
            except _Refused as refused:
                yield refused.reason
    if state:
        yield _state(mapping, record, message, at)
    if text:
        yield _text(mapping, record, message, at)


def _time(mapping: StreamMapping, record: Any, message: Any) -> int:
    time = mapping.stream.time
    value = mapping.time.find(record, message)
    if value is None:
        raise _Refused("time", f"no time at {time.path!r}{_offers(record)}")
    try:
        return instant(value, time)
    except ValueError as error:
        raise _Refused("time", str(error)) from error


def _status(mapping: StreamMapping, record: Any, message: Any) -> int:
    if mapping.status is None or mapping.stream.status is None:
        return STATUS_GOOD
    status: StreamStatus = mapping.stream.status
    said = mapping.status.find(record, message)
    code = status.codes.get(word_key(said)) if status.codes else said
    if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code <= 0xFFFFFFFF:
        known = f", only {', '.join(status.codes)}" if status.codes else ""
        raise _Refused("status", f"status {_shown(said)} at {status.path!r} is not known{known}")
    return code


def _sample(field: ValueField, value: Any, record: Any, message: Any, at: int, status: int) -> MappedSample:
    if field.unit_place is not None:
        unit = field.unit_place.find(record, message)
        if unit != field.value.unit:
            raise _Refused(
                "unit", f"{field.value.tag}: the message says unit {_shown(unit)}, the tag is in {field.value.unit!r}"
            )
    number = _number(value)
    if number is None and status >> 30 == 0:
        raise _Refused("number", f"{field.value.tag}: {_shown(value)} at {field.value.path!r} is no number")
    return MappedSample(
        field.value.tag, field.tag_id, field.value.unit, at, math.nan if number is None else number, status
    )


def _number(value: Any) -> float | None:
    if not isinstance(value, (bool, int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _state(mapping: StreamMapping, record: Any, message: Any, at: int) -> MappedEvent | Reason:
    assert mapping.state is not None
    assert mapping.stream.state is not None
    said = mapping.state.place.find(record, message)
    name = mapping.stream.state.states.get(word_key(said))
    if name is None:
        known = ", ".join(mapping.stream.state.states)
        return Reason("state", f"state {_shown(said)} at {mapping.stream.state.path!r} is not mapped, only {known}")
    return MappedEvent("packml.state", at, int(PackMLState[name]))


def _text(mapping: StreamMapping, record: Any, message: Any, at: int) -> MappedEvent | Reason:
    assert mapping.text is not None
    assert mapping.stream.text is not None
    said = mapping.text.place.find(record, message)
    if not isinstance(said, str) or not said.strip():
        return Reason("text", f"text: {_shown(said)} at {mapping.stream.text.path!r} is no text")
    return MappedEvent(mapping.stream.text.kind, at, text=said.strip()[:TEXT_MAX])


def _shown(value: Any) -> str:
    """Return a value as JSON, not too long."""
    if isinstance(value, str):
        text = repr(value)
    else:
        text = "nothing" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _offers(record: Any) -> str:
    """Return the names that are there, for whoever looks for the right one."""
    if not isinstance(record, dict):
        return f" (the record is {_shown(record)})"
    return f" (there are {_shown(', '.join(record))})" if record else " (the record is empty)"
