"""Writes plain values as TOML, for configurations that the program draws up itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def toml_text(values: Mapping[str, object]) -> str:
    """Return top-level values as TOML 1.0; None must have been left out.

    >>> print(toml_text({"a": [{"b": 1.5, "c": "x"}], "on": True}), end="")
    a = [{ b = 1.5, c = "x" }]
    on = true
    """
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            inside = ", ".join(f"{_key(key)} = {_value(v)}" for key, v in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case Sequence():
            return f"[{', '.join(_value(v) for v in value)}]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else json.dumps(key)
