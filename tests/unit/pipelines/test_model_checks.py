"""What the doctor says of models: files, packages, and servers on the loopback."""

from __future__ import annotations

import asyncio
from typing import Any

from connectors.check import Check
from pipelines.model_checks import check_models
from schemas.settings import ReasonerSettings
from tests.support.model_server import Reply, enforcing, ignoring, serving


def said(reply: Reply, **changes: Any) -> Check:
    """What is said of a server that replies so."""

    async def story() -> Check:
        async with serving(reply) as server:
            one = {"name": "large", "server": "vllm", "url": server.url, "model": "m", **changes}
            (check,) = await check_models(ReasonerSettings.model_validate({"servers": [one]}))
            return check

    return asyncio.run(story())


def test_a_server_that_keeps_to_a_schema_is_well():
    check = said(enforcing("{}"))
    assert (check.ok, "keeps to a schema" in check.detail) == (True, True)


def test_a_server_that_does_not_is_told_with_what_to_do():
    check = said(ignoring("{}"))
    assert (check.ok, "does not keep to a schema" in check.detail) == (False, True)
    assert check.remedy.startswith("Start vllm at http://127.0.0.1:")


def test_a_server_that_need_not_is_well_and_that_is_said():
    check = said(ignoring("{}"), enforced=False)
    assert (check.ok, "is not asked to keep to a schema" in check.detail) == (True, True)


def test_a_key_that_is_not_there_is_told(tmp_path):
    assert "key_file" in said(ignoring("{}"), key_file=str(tmp_path / "none")).detail


def test_files_are_looked_at_without_being_loaded(tmp_path):
    models = {"transformers": [{"name": "small", "model": str(tmp_path)}]}
    (check,) = asyncio.run(check_models(ReasonerSettings.model_validate(models)))
    assert not check.ok
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    (check,) = asyncio.run(check_models(ReasonerSettings.model_validate(models)))
    assert check.ok is ("not installed" not in check.detail)
    assert "not pinned" in check.detail or "not installed" in check.detail
