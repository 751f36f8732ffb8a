"""Times as plants write them, as microseconds since 1970 UTC; what could mean two times, or none, is refused. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.streams import StreamTime, TimeFormat

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
EARLIEST_AT: Final = 946_684_800_000_000
"""2000-01-01: what is before was written in another format, or by a clock that was never set."""
LATEST_AT: Final = 4_102_444_800_000_000
"""2100-01-01."""
DATE_CHARACTERS: Final = len("2026-01-31")


def instant(value: object, time: StreamTime) -> int:
    """Return a time of a message.

    Raises:
        ValueError: why it cannot be used, in words for whoever writes `streams.toml`.
    """
    at = _from_text(value, time.zone) if time.format == "iso8601" else _from_number(value, time.format)
    if not EARLIEST_AT <= at < LATEST_AT:
        said = f"{value!r} as {time.format}"
        raise ValueError(f"time {said} is not between 2000 and 2100: the format is another, or the clock is not set")
    return at


@cache
def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of this name.

    Raises:
        ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}: use an IANA name such as 'Europe/Berlin'") from error


def _from_text(value: object, zone: str) -> int:
    if not isinstance(value, str):
        raise ValueError(f"time {value!r} is no text: the format is not iso8601")
    text = value.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"time {value!r} is not ISO 8601, e.g. 2026-01-31T12:00:00.000Z") from error
    if len(text) <= DATE_CHARACTERS:
        raise ValueError(f"time {value!r} is a date without a time of day")
    if moment.tzinfo is None:
        moment = _in_zone(moment, zone)
    return (moment - EPOCH) // MICROSECOND


def _in_zone(moment: datetime, zone: str) -> datetime:
    """Return a local time with its offset, if the zone has it exactly once."""
    first, second = (moment.replace(tzinfo=zone_of(zone), fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    # An hour that is skipped does not come back as it was.
    twice = first.astimezone(UTC).astimezone(zone_of(zone)).replace(tzinfo=None) == moment
    why = "is there twice" if twice else "does not exist"
    raise ValueError(f"local time {moment.isoformat()} {why} in {zone} (daylight saving): let the plant write UTC")


def _from_number(value: object, unit: TimeFormat) -> int:
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"time {value!r} is no number: the format is not {unit}")
    match unit:
        # Whole numbers stay exact: a float has no room for nanoseconds.
        case "ns":
            return int(value) // 1000
        case "us":
            return int(value)
        case "ms":
            return round(value * 1000)
        case _:
            return round(value * 1_000_000)


def _number(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
