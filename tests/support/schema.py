"""A validator of the part of JSON Schema that answers are described in: another pair of eyes than the decoder's."""

from __future__ import annotations

import re
from typing import Any

KEYWORDS = {
    "additionalProperties", "anyOf", "const", "enum", "items", "maxItems", "pattern", "properties", "required", "type",
}  # fmt: skip


def valid(value: Any, schema: dict[str, Any]) -> bool:
    """Tell whether a value is of a schema. A keyword outside the portable part is an error of the schema."""
    assert set(schema) <= KEYWORDS, f"not enforced everywhere: {set(schema) - KEYWORDS}"
    if "const" in schema or "enum" in schema:
        return any(type(value) is type(one) and value == one for one in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return any(valid(value, one) for one in schema["anyOf"])
    return {"object": _object, "array": _array, "string": _string}[schema["type"]](value, schema)


def _object(value: Any, schema: dict[str, Any]) -> bool:
    known = schema["properties"]
    return (
        isinstance(value, dict)
        and schema["additionalProperties"] is False
        and set(schema["required"]) <= set(value) <= set(known)
        and all(valid(value[name], known[name]) for name in value)
    )


def _array(value: Any, schema: dict[str, Any]) -> bool:
    assert "items" in schema, "maxItems alone is not enforced everywhere"
    if not isinstance(value, list) or len(value) > schema["maxItems"]:
        return False
    return all(valid(item, schema["items"]) for item in value)


def _string(value: Any, schema: dict[str, Any]) -> bool:
    return isinstance(value, str) and re.search(schema["pattern"].replace("$", r"\Z"), value) is not None
