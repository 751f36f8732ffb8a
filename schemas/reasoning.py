"""What is said to a language model: messages and the one function that it may call. No text of the plant is in it."""

from __future__ import annotations

from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question to a language model."""

    messages: tuple[Message, ...]
    """System first; what is the same for every incident of a site comes before what is not."""
    function: str
    """Name of the function to call."""
    description: str
    """What the function is for."""
    parameters: str
    """Its parameters as JSON Schema, the same for every incident of a site: it is shown to the model."""
    answer: str
    """JSON Schema of the arguments that are legal for this incident: narrower, and enforced."""

    def text(self) -> str:
        """Return all of it as one JSON text, for the record and for hashing."""
        return msgspec.json.encode(self).decode()
