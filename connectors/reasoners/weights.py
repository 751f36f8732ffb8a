"""A language model's files: where they are, what they may be, and what they hash to. Loads nothing.

Only safetensors, never pickles; never code that comes with a model. The digest is in every answer, and can be pinned.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError
from schemas.settings import TransformersSettings

WANTED: Final = ("*.safetensors", "*.json", "*.jinja", "merges.txt")
"""All that is taken from the hub."""
READ_BYTES: Final = 1 << 22
FILE: Final = "jidoka.toml"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's folder, checked."""

    folder: Path
    weights_sha256: str
    """Over name and SHA-256 of each weights file, in the order of names."""
    tokenizer_sha256: str
    """Of `tokenizer.json`."""
    template_sha256: str
    """Of the chat template, wherever it is kept."""
    config_sha256: str
    """Of `config.json`."""

    def identity(self) -> dict[str, str]:
        """Return what a record of an answer says about the files."""
        return {
            "weights_sha256": self.weights_sha256,
            "tokenizer_sha256": self.tokenizer_sha256,
            "template_sha256": self.template_sha256,
            "config_sha256": self.config_sha256,
        }


def read(settings: TransformersSettings, folder: Path) -> ModelFiles:
    """Check and hash the files of a folder that was found. Reads all of them once: seconds to minutes.

    Raises:
        ConfigError: some are missing, or they are of another digest than `sha256` says.
    """
    config = _read(settings, folder / "config.json")
    files = ModelFiles(
        folder=folder,
        weights_sha256=digest(sorted(folder.glob("*.safetensors"))),
        tokenizer_sha256=hashlib.sha256(_read(settings, folder / "tokenizer.json")).hexdigest(),
        template_sha256=hashlib.sha256(_template(settings, folder)).hexdigest(),
        config_sha256=hashlib.sha256(config).hexdigest(),
    )
    if settings.sha256 and settings.sha256 != files.weights_sha256:
        _fail(settings, "sha256", f"the weights are {files.weights_sha256}", "Look whose they are; then write it here")
    return files


def find(settings: TransformersSettings) -> Path:
    """Return a model's folder, checked without reading the weights.

    Raises:
        ConfigError: not there, not safetensors, or with code of its own.
    """
    folder = Path(settings.model) if Path(settings.model).is_dir() else _from_hub(settings)
    if not any(folder.glob("*.safetensors")):
        _fail(settings, "model", f"{folder} has no *.safetensors", "Convert the weights: pickles are not loaded")
    if "auto_map" in json.loads(_read(settings, folder / "config.json")):
        _fail(settings, "model", f"{folder} wants code of its own to be run", "Use a model that transformers knows")
    return folder


def digest(weights: list[Path]) -> str:
    """Return one SHA-256 over several files: of the lines `sha256  name`, as `sha256sum` writes them."""
    whole = hashlib.sha256()
    for path in weights:
        with path.open("rb") as opened:
            one = hashlib.file_digest(opened, "sha256").hexdigest()
        whole.update(f"{one}  {path.name}\n".encode())
    return whole.hexdigest()


def _from_hub(settings: TransformersSettings) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            settings.model,
            revision=settings.revision or None,
            allow_patterns=list(WANTED),
            local_files_only=settings.offline,
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        remedy = "Fetch it once with `offline = false`, or give a folder" if settings.offline else "Give a folder"
        raise ConfigError(FILE, f"reasoners.{settings.name}.model", f"{settings.model}: {error}", remedy) from error
    return Path(found)


def _template(settings: TransformersSettings, folder: Path) -> bytes:
    kept = folder / "chat_template.jinja"
    if kept.is_file():
        return kept.read_bytes()
    inside = json.loads(_read(settings, folder / "tokenizer_config.json")).get("chat_template")
    if not isinstance(inside, str):
        _fail(settings, "model", f"{folder} has no chat template", "Use an instruction-tuned model")
    return str(inside).encode()


def _read(settings: TransformersSettings, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            FILE, f"reasoners.{settings.name}.model", f"{path} cannot be read: {error.strerror}", "Complete the folder"
        ) from error


def _fail(settings: TransformersSettings, field: str, problem: str, remedy: str) -> None:
    raise ConfigError(FILE, f"reasoners.{settings.name}.{field}", problem, remedy)
