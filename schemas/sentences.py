"""A request in plain language, and how it was read."""

from __future__ import annotations

from typing import Final

import msgspec

SENTENCE_CHARS_MAX: Final = 500
"""A longer text is refused: nobody could see at a glance what he approves."""


class Sentence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person wrote."""

    request_id: str
    """Of the person's request."""
    who: str
    language: str
    """A key of `agent.asking.languages.LANGUAGES`."""
    text: str


class Understood(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a sentence that became an action."""

    words: str
    action: str
    args: dict[str, float] = {}


class NotUnderstood(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a sentence that nothing follows from."""

    words: str
    reason: str
    candidates: tuple[str, ...] = ()
    """What it could mean, where that is more than one thing."""


class Interpretation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the phrasebook read a sentence. Every word of it is in one of the parts, or says nothing."""

    understood: tuple[Understood, ...] = ()
    not_understood: tuple[NotUnderstood, ...] = ()
    barred: bool = False
    """Something is denied, asked, undecided or made conditional: nothing may follow from any of it, by any reader."""

    def text(self) -> str:
        """Return it as JSON, for the record."""
        return msgspec.json.encode(self).decode()


def interpretation_of(text: str) -> Interpretation | None:
    """Return what `Interpretation.text` gave; None: it is something else."""
    try:
        return msgspec.json.decode(text, type=Interpretation)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
