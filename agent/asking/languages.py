"""The languages that sentences are read in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.asking.english import ENGLISH
from agent.asking.words import Words

LANGUAGES: Final[Mapping[str, Words]] = {"en": ENGLISH}
"""By code (ISO 639-1)."""
DEFAULT_LANGUAGE: Final = "en"
