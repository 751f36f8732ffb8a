"""Messages that cannot be used, on `dead-letters.v1`: shortened, with the reason and where they come from. Pure."""

from __future__ import annotations

from typing import Final

from connectors.kafka.codec import Message

TOPIC: Final = "dead-letters.v1"
VALUE_BYTES_MAX: Final = 10_000
REASON_CHARACTERS_MAX: Final = 500
HEADERS_MAX: Final = 50


def dead_letter(message: Message, *, reason: str, origin: str) -> Message:
    """Return what tells of a message that was refused.

    Args:
        message: As it came; its value is cut to `VALUE_BYTES_MAX`.
        reason: Why, for people.
        origin: Who refused it and where it was to go or came from, e.g. `collect telemetry.v1/3`.
    """
    said = (
        ("dead_reason", reason[:REASON_CHARACTERS_MAX].encode()),
        ("dead_origin", origin.encode()),
        ("dead_value_bytes", b"%d" % len(message.value)),
    )
    kept = tuple((name, content[:VALUE_BYTES_MAX]) for name, content in message.headers[:HEADERS_MAX])
    return Message(message.key, message.value[:VALUE_BYTES_MAX], (*said, *kept))
