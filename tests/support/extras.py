"""Tests that need an extra which not every machine has."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from pipelines.model_checks import NEEDED


def need_model_extra(*more: str) -> None:
    """Skip the test, or the module that calls it, where language models cannot be run; in CI that is a failure."""
    missing = [name for name in (*NEEDED, *more) if find_spec(name) is None]
    if missing:
        lacks = f"{', '.join(missing)} not installed: make test-model"
        assert os.environ.get("CI") != "true", lacks
        pytest.skip(lacks, allow_module_level=True)
