"""A real server that takes a schema, says nothing, and does not keep to it: it is found out before it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pipelines.model_checks import check_models
from pipelines.questions import question_for
from pipelines.remote_model import RemoteModel
from schemas.errors import ConnectionFault
from schemas.settings import ReasonerSettings, ServerSettings
from tests.support.extras import need_model_extra
from tests.support.incidents import demo_repertoire, oily_pads_and_dragging_drive
from tests.support.transformers_serve import transformers_serve

ANSWER_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServerSettings]:
    need_model_extra("fastapi", "openai", "requests", "uvicorn")
    from tests.support import tiny_qwen

    folder = tmp_path_factory.mktemp("serve")
    model = tiny_qwen.make(folder / "model", ["How many legs has a cat?", '{"code": "abc"}'])
    with transformers_serve(model, folder / "home") as url:
        yield ServerSettings(name="served", server="openai", url=url, model=str(model), tokens_max=50)


def test_it_answers_and_is_refused_since_it_ignores_the_schema(server):
    refusal = asyncio.run(RemoteModel(server).ready(deadline_s=ANSWER_S))
    assert refusal.startswith(f"openai at {server.url} does not keep to a schema: it said ")


def test_it_is_never_asked_about_an_incident(server):
    question = question_for(oily_pads_and_dragging_drive(), demo_repertoire(), "names")

    async def ask() -> None:
        model = RemoteModel(server)
        await model.ready(deadline_s=ANSWER_S)  # The first answer takes the longest: the model is loaded for it.
        await model.answer(question, deadline_s=ANSWER_S)

    with pytest.raises(ConnectionFault, match="does not keep to a schema"):
        asyncio.run(ask())


def test_the_doctor_says_so_with_the_remedy(server):
    asyncio.run(RemoteModel(server).ready(deadline_s=ANSWER_S))
    (check,) = asyncio.run(check_models(ReasonerSettings(servers=(server,))))
    assert not check.ok
    assert "does not keep to a schema" in check.detail
    assert "guided decoding" in check.remedy
