"""Writes TOML: so that a test can put any text into a file of a site and have it read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def toml(values: Mapping[str, Any]) -> bytes:
    """Return a file of one inline value a key. A text that TOML cannot hold is written all the same."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items()).encode("utf-8", "surrogatepass")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _character(character: str) -> str:
    return character if " " <= character <= "~" and character not in '"\\' else f"\\U{ord(character):08X}"
