"""The model that comes with the product: where it is, and how it is loaded. A learned playbook (docs/model-card.md)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from schemas.settings import TransformersSettings

EMBEDDED: Final = "embedded"
"""Its name in `jidoka.toml` and in the log."""
FOLDER: Final = Path(__file__).parent / "embedded"
SHA256: Final = "8039a95f9e105af94bfe116814fd99e1651e9d7aa5f23c91298382fc4ee33830"
"""Of the weights, as `connectors.reasoners.weights.digest` has it: other weights are not loaded."""
PACKAGES: Final = ("torch", "transformers")


def installed() -> bool:
    """Return whether the model can be loaded here: weights and the extra `model` are there. Imports nothing."""
    there = bool(SHA256) and (FOLDER / "model.safetensors").is_file()
    return there and all(find_spec(package) is not None for package in PACKAGES)


def embedded_settings() -> TransformersSettings:
    """Return how it is loaded: one thread, float32, choice by choice, told by slots."""
    return TransformersSettings(
        name=EMBEDDED,
        model=str(FOLDER),
        sha256=SHA256,
        dtype="float32",
        device="cpu",
        threads=1,
        decode="choices",
        told="slots",
    )
