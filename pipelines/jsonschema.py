"""Writes the JSON Schemas of facts and configuration files, for editors and for readers of the log in other languages.

    python -m pipelines.jsonschema

They are checked in; a test fails when they are stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

import schemas
from pipelines.config import FILES
from schemas.facts import AnyFact
from schemas.streams import Streams

FOLDER = Path(schemas.__file__).parent / "jsonschema"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES = {"jidoka.toml": "settings.json"}
"""Where the schema is not named after its file."""


def documents() -> Mapping[str, str]:
    """Return each schema as text by its file's name; the same text at every call."""
    files: Mapping[str, type[BaseModel]] = {**FILES, "streams.toml": Streams}
    of_files = {NAMES.get(f, f.replace(".toml", ".json")): m.model_json_schema() for f, m in files.items()}
    of_facts = msgspec.json.schema(AnyFact)
    return {name: _text(schema) for name, schema in {**of_files, "facts.json": of_facts}.items()}


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps({"$schema": DIALECT, **schema}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of files that are missing, are not as they should be, or should not be there."""
    wanted = documents()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> None:
    """Write every schema, and remove what is none any more."""
    folder.mkdir(exist_ok=True)
    wanted = documents()
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{len(documents())} schemas in {FOLDER}\n")
