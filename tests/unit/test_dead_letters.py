"""What tells of a message that nobody can use: whatever came, it is small, says why, and says where it lies."""

from __future__ import annotations

from connectors.kafka import dead
from connectors.kafka.codec import Message
from connectors.kafka.dead import VALUE_BYTES_MAX, dead_letter_of

HUGE = 1_000_000


def letter(key: bytes | None, value: bytes | None, headers: list, reason: str = "why") -> Message:
    return dead_letter_of(key, value, headers, reason=reason, by="detect", topic="telemetry.v1", partition=2, offset=77)


def size(message: Message) -> int:
    return len(message.key) + len(message.value) + sum(len(name) + len(content) for name, content in message.headers)


def test_a_letter_says_why_where_and_how_long_it_was():
    said = dict(letter(b"cell", b"x" * HUGE, []).headers)
    assert said == {
        "dead_reason": b"why",
        "dead_origin": b"detect telemetry.v1/2/77",
        "dead_value_bytes": b"%d" % HUGE,
    }


def test_a_letter_is_taken_by_a_broker_whatever_came():
    """Before: what was buried by detection went on as it came, and a huge one ended the worker again and again."""
    came = [("h" * HUGE, b"x" * HUGE)] * 200
    assert size(letter(b"k" * HUGE, b"v" * HUGE, came, "w" * HUGE)) < (dead.HEADERS_MAX + 3) * (VALUE_BYTES_MAX + 600)


def test_key_value_and_headers_that_are_not_there_are_told_as_empty():
    told = letter(None, None, [("junk", None)], reason="\ud800")
    assert (told.key, told.value, dict(told.headers)["junk"], dict(told.headers)["dead_reason"]) == (
        b"",
        b"",
        b"",
        b"?",
    )
