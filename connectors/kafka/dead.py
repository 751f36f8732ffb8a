"""Messages that cannot be used, on `dead-letters.v1`: shortened, with the reason and where they come from. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from connectors.kafka.codec import Message

TOPIC: Final = "dead-letters.v1"
VALUE_BYTES_MAX: Final = 10_000
"""Of value, key and each header: whatever came, what tells of it is taken by every broker."""
NAME_CHARACTERS_MAX: Final = 100
REASON_CHARACTERS_MAX: Final = 500
HEADERS_MAX: Final = 50


def dead_letter(message: Message, *, reason: str, origin: str) -> Message:
    """Return what tells of a message that was refused.

    Args:
        message: As it came; value, key and headers are cut to `VALUE_BYTES_MAX` each.
        reason: Why, for people.
        origin: Who refused it and where it was to go or came from, e.g. `collect telemetry.v1/3`.
    """
    said = (
        ("dead_reason", reason[:REASON_CHARACTERS_MAX].encode(errors="replace")),
        ("dead_origin", origin.encode()),
        ("dead_value_bytes", b"%d" % len(message.value)),
    )
    kept = tuple(
        (name[:NAME_CHARACTERS_MAX], content[:VALUE_BYTES_MAX]) for name, content in message.headers[:HEADERS_MAX]
    )
    return Message(message.key[:VALUE_BYTES_MAX], message.value[:VALUE_BYTES_MAX], (*said, *kept))


def dead_letter_of(
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]] | None,
    *,
    reason: str,
    by: str,
    topic: str,
    partition: int,
    offset: int,
) -> Message:
    """Return what tells of a message that came from a topic.

    Args:
        key: As it came; None is told as empty, as in value and headers.
        value: As it came.
        headers: As they came.
        reason: Why, for people.
        by: Who refused it, e.g. `detect`.
        topic: Where it lies.
        partition: Its number.
        offset: Of the message; with topic and partition it tells whether two letters are about the same one.
    """
    came = Message(key or b"", value or b"", tuple((name, content or b"") for name, content in headers or ()))
    return dead_letter(came, reason=reason, origin=f"{by} {topic}/{partition}/{offset}")
