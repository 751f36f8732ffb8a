"""`streams.toml`: topics that the plant writes itself, in JSON, and how their messages become tags and line events.

Optional. A path names a place in a message: names with dots between (`payload.temp`), `["any name"]` for one with dots
or brackets in it, `[0]` for a place in a list. It begins at the record; with a leading `$` at the whole message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from schemas.line import PackMLState
from schemas.plant import Strict

TimeFormat = Literal["iso8601", "s", "ms", "us", "ns"]
"""ISO 8601 text, or a number of seconds or parts of them since 1970 UTC."""
Word = str | int | bool
"""What a plant writes for one of several things; `1` and `"1"` are the same, `true` is `"true"`."""

_STEP: Final = re.compile(r'\.?(?P<name>[^.\[\]"$\s]+)|\[(?P<index>\d{1,6})\]|\["(?P<text>[^"]+)"\]')
ROOT: Final = "$"


def steps(path: str) -> tuple[str | int, ...]:
    """Return the names and places of a path, without a leading `$`.

    Raises:
        ValueError: it is not written as a path.

    >>> steps('$.data["grip.force"][0].v')
    ('data', 'grip.force', 0, 'v')
    """
    rest, found = path.removeprefix(ROOT), list[str | int]()
    while rest:
        match = _STEP.match(rest)
        if match is None or (not found and not path.startswith(ROOT) and rest.startswith(".")):
            raise ValueError(f'path {path!r} is not understood at {rest!r}: write it as a.b[0]["c d"]')
        found.append(int(match["index"]) if match["index"] else match["name"] or match["text"])
        rest = rest[match.end() :]
    return tuple(found)


def _is_path(path: str) -> str:
    steps(path)
    return path


Path = Annotated[str, AfterValidator(_is_path)]


class Where(Strict):
    """Holds for records with this value at this place."""

    path: Path
    """Where to look."""
    equals: Word
    """What must be there."""


class StreamTime(Strict):
    """When it was, by the plant."""

    path: Path
    """Where the time is."""
    format: TimeFormat
    """How it is written. A number may also come as text."""
    zone: str = "UTC"
    """IANA name, for ISO 8601 times without an offset of their own. Those that daylight saving makes twice or never are
    refused: let the plant write UTC, or an offset."""


class StreamStatus(Strict):
    """What the plant says about the quality of its values."""

    path: Path
    """Where it is said."""
    codes: Mapping[str, int] = {}
    """OPC UA StatusCode by the plant's word, e.g. `{ good = 0, bad = 0x80000000 }`; another word is refused. Empty: a
    number there is the StatusCode itself."""

    @model_validator(mode="after")
    def _codes(self) -> StreamStatus:
        wrong = [word for word, code in self.codes.items() if not 0 <= code <= 0xFFFFFFFF]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no StatusCode: 0 is Good, 0x40000000 Uncertain, 0x80000000 Bad")
        return self


class StreamValue(Strict):
    """A number or boolean that becomes a sample."""

    tag: str
    """The tag's name in the cell."""
    unit: str
    """The unit in which the plant writes it. Must equal the tag's: nothing is converted."""
    path: Path
    """Where the value is. A record that lacks it has no sample of this tag."""
    where: Where | None = None
    """Only records with this, e.g. the name of the signal."""
    unit_path: Path | None = None
    """Where the message tells its unit; it must say `unit`, word for word."""


class StreamState(Strict):
    """The machine's state, which becomes a PackML state."""

    path: Path
    """Where it is."""
    states: Mapping[str, str]
    """PackML state by the plant's word or number, e.g. `{ RUN = "EXECUTE", "3" = "HELD" }`; another word is refused."""
    where: Where | None = None
    """Only records with this."""

    @model_validator(mode="after")
    def _states(self) -> StreamState:
        for word, state in self.states.items():
            if state not in PackMLState.__members__:
                known = ", ".join(PackMLState.__members__)
                raise ValueError(f"{word!r} is mapped to {state!r}, which is no PackML state: use one of {known}")
        if not self.states:
            raise ValueError("states is empty: name at least one")
        return self


class StreamText(Strict):
    """Text that becomes a line event."""

    path: Path
    """Where it is."""
    kind: Literal["changeover", "text"] = "text"
    """What it tells."""
    where: Where | None = None
    """Only records with this."""


class Stream(Strict):
    """How the messages of one topic that are about one cell are understood."""

    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")
    """The plant's topic. Several entries may have the same, for several cells."""
    cell: str
    """Id of the cell."""
    key: str | None = None
    """Only messages with this key."""
    where: Where | None = None
    """Only messages with this, e.g. the name of the machine."""
    each: Path | None = None
    """A list in the message: each of its elements is a record. Left out: the message is the one record."""
    time: StreamTime
    """When it was."""
    begin: Literal["latest", "earliest"] = Field(default="latest", alias="from")
    """Where reading begins at the very first start: behind what is on the topic by then, or at the oldest message that
    is kept. Later starts go on where the last one ended."""
    status: StreamStatus | None = None
    """Left out: every value is Good."""
    values: tuple[StreamValue, ...] = ()
    """What becomes samples."""
    state: StreamState | None = None
    """What becomes the cell's PackML state."""
    text: StreamText | None = None
    """What becomes a line event in words."""
    pass_over_unknown: bool = False
    """Whether records that no entry of `values`, `state` or `text` is about are passed over; else they are told as
    problems, so that a new or misspelt signal shows."""
    disorder_s: float = Field(default=2.0, ge=0)
    """How much older than the newest one a message may be; what is older still comes too late for its row."""
    dead_after_s: float = Field(default=10.0, gt=0)
    """Wall time without any message after which the source counts as lost: values are not held any longer."""

    @model_validator(mode="after")
    def _whole(self) -> Stream:
        if not (self.values or self.state or self.text):
            raise ValueError("neither values nor state nor text is mapped: name what is wanted from this topic")
        return self


class Streams(Strict):
    """The whole of `streams.toml`."""

    streams: tuple[Stream, ...]
    """By topic and cell."""

    @model_validator(mode="after")
    def _one_beginning(self) -> Streams:
        begins: dict[tuple[str, str], str] = {}
        for each in self.streams:
            if begins.setdefault((each.cell, each.topic), each.begin) != each.begin:
                raise ValueError(
                    f"entries of cell {each.cell!r} for {each.topic!r} differ in from: they are read as one"
                )
        return self
