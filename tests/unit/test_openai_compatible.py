"""A model behind a real HTTP server on the loopback: what it is told, what is believed, and how it can fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agent.reasoning.parse import parse_plan
from connectors.reasoners.openai_compatible import ANSWER_BYTES_MAX, OpenAiCompatible, read_reply, request_body
from connectors.reasoners.playbook import PlaybookReasoner
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache
from pipelines.remote_model import RemoteModel
from schemas.errors import ConfigError, ConnectionFault
from schemas.plans import Completion, Plan
from schemas.settings import CascadeSettings, ServerSettings
from tests.support.demo import demo_rules
from tests.support.incidents import asked, demo_playbook, demo_repertoire, incident
from tests.support.model_server import (
    ModelServer,
    Reply,
    after_probe,
    completion,
    enforcing,
    http,
    ignoring,
    serving,
)
from tests.support.models import CLEAN

OIL = incident(("part_slip_mm", "very_high", "limit"))
LONG_S = 60.0


def settings(url: str = "http://127.0.0.1:9/v1", **changes: Any) -> ServerSettings:
    return ServerSettings.model_validate(
        {"name": "large", "server": "vllm", "url": url, "model": "Qwen/Qwen2.5-32B-Instruct", **changes}
    )


def propose(reply: Reply, deadline_s: float = LONG_S, **changes: Any) -> tuple[Completion | str, ModelServer]:
    """Ask about an incident; return the answer or why there is none, and what the server saw."""

    async def story() -> tuple[Completion | str, ModelServer]:
        async with serving(reply) as server:
            model = RemoteModel(settings(server.url, **changes))
            reasoner = ModelReasoner(model, demo_repertoire(), "", PlanCache(4), Lines().of("a/b"))
            request = type(OIL)(**{f: getattr(OIL, f) for f in OIL.__struct_fields__} | {"deadline_s": deadline_s})
            try:
                return await reasoner.propose(request), server
            except ConnectionFault as error:
                return str(error), server

    return asyncio.run(story())


@pytest.mark.parametrize("server", ["vllm", "sglang", "llama_cpp", "ollama", "openai"])
def test_a_server_that_keeps_to_the_schema_is_asked_and_its_answer_is_a_plan(server):
    found, seen = propose(enforcing(CLEAN), server=server)
    assert isinstance(found, Completion)
    assert isinstance(parse_plan(found.raw, OIL, demo_rules()), Plan)
    assert (found.said, found.model["schema"], found.model["server_model"]) == (CLEAN, "probed", "served-1")
    assert len(seen.bodies) == 2, "the probe, then the question"
    assert seen.bodies[1]["seed"] == 0


def test_a_server_that_ignores_the_schema_in_silence_is_found_out_and_never_asked():
    found, seen = propose(ignoring('{"findings": []}'))
    assert isinstance(found, str)
    assert "does not keep to a schema: it said" in found
    assert len(seen.bodies) == 1, "the probe only"


def test_the_nonce_of_the_probe_is_told_to_the_server_and_not_to_the_model():
    _, seen = propose(ignoring("{}"))
    (probe,) = seen.bodies
    nonce = probe["response_format"]["json_schema"]["schema"]["properties"]["code"]["const"]
    assert nonce not in json.dumps(probe["messages"])
    _, again = propose(ignoring("{}"))
    assert nonce not in json.dumps(again.bodies)


def test_a_refused_server_is_not_probed_with_every_question():
    async def story() -> int:
        async with serving(ignoring("{}")) as server:
            model = RemoteModel(settings(server.url))
            refusals = [await model.ready() for _ in range(5)]
            assert all("does not keep" in refusal for refusal in refusals)
            return len(server.bodies)

    assert asyncio.run(story()) == 1


def test_a_server_that_cannot_enforce_may_be_asked_if_that_is_said_and_is_still_not_believed():
    found, seen = propose(ignoring("Sure!"), server="dashscope", enforced=False)
    assert isinstance(found, Completion)
    assert (found.raw, found.model["schema"]) == ("Sure!", "not asked for")
    assert parse_plan(found.raw, OIL, demo_rules()).rule == "answer.json"
    assert seen.bodies[0]["response_format"] == {"type": "json_object"}
    assert "JSON" in json.dumps(seen.bodies[0]["messages"])


async def hang(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(LONG_S)


async def drip(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Slower than any deadline, but never silent."""
    http(writer, b"", length=1000)
    for _ in range(600):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def drop(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    http(writer, completion(CLEAN)[:40], length=4000)


async def vanish(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def flood(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    http(writer, b" " * (ANSWER_BYTES_MAX + 1))


def responding(body: bytes, status: str = "200 OK") -> Reply:
    async def reply(server: ModelServer, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        http(writer, body, status)

    return reply


@pytest.mark.parametrize(
    ("reply", "deadline_s", "why", "posts"),
    [
        (hang, 0.5, "no answer within", 1),
        (drip, 0.5, "no answer within", 1),
        (drop, LONG_S, "RemoteProtocolError", 2),
        (vanish, LONG_S, "large: ", 2),
        (flood, LONG_S, "longer than", 1),
        (responding(b"<html>busy</html>", "503 Service Unavailable"), LONG_S, "HTTP 503: <html>busy</html>, after", 2),
        (responding(b"no such model", "404 Not Found"), LONG_S, "HTTP 404: no such model", 1),
        (responding(b"\xff\x00rubbish"), LONG_S, "no chat completion", 1),
        (responding(b'{"choices": []}'), LONG_S, "no chat completion", 1),
        (responding(b'{"choices": [{"message": {"content": null}}]}'), LONG_S, "no chat completion", 1),
        (responding(b"[" * 100_000), LONG_S, "no chat completion", 1),
        (responding(completion(CLEAN, finish_reason="length")), LONG_S, "cut off at tokens_max", 1),
    ],
)  # fmt: skip
def test_every_failure_is_said_in_time_and_only_what_may_pass_is_tried_twice(reply, deadline_s, why, posts):
    found, seen = propose(after_probe(reply), deadline_s)
    assert isinstance(found, str)
    assert why in found
    assert len(seen.bodies) == 1 + posts


def test_a_server_that_is_not_there_is_said():
    async def story() -> str:
        return await RemoteModel(settings("http://127.0.0.1:9/v1")).ready()

    assert "probe: large: ConnectError" in asyncio.run(story())


def test_a_failure_that_passed_is_in_the_record():
    async def once(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        http(writer, b"", "503 Busy") if len(server.bodies) == 2 else http(writer, completion(CLEAN))

    found, _ = propose(after_probe(once))
    assert isinstance(found, Completion)
    assert found.model["retried"] == "HTTP 503: "


def test_the_least_certain_token_is_the_confidence_where_a_server_tells_it():
    logs = {"content": [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.6931471805599453}]}
    assert read_reply(completion("{}", logprobs=logs).decode()).confidence == pytest.approx(0.5)
    for odd in (None, {}, {"content": None}, {"content": [{"logprob": "x"}]}, {"content": [{"logprob": float("nan")}]}):
        assert read_reply(completion("{}", logprobs=odd).decode()).confidence is None


def test_a_function_call_is_an_answer_too():
    call = {"function": {"name": "propose_plan", "arguments": CLEAN}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert read_reply(completion("", message=message).decode()).said == CLEAN


@pytest.mark.parametrize(
    ("server", "form"),
    [
        ("vllm", {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": {}}}),
        ("llama_cpp", {"type": "json_object", "schema": {}}),
        ("dashscope", {"type": "json_object"}),
    ],
)
def test_each_server_is_told_in_its_own_form(server, form):
    prompt, _ = asked(OIL)
    body = request_body(settings(server=server, seed=7, temperature=0.2), prompt, shown=True)
    expected = json.loads(json.dumps(form).replace('"schema": {}', f'"schema": {prompt.answer}'))
    assert body["response_format"] == expected
    assert (body["seed"], body["temperature"], body["max_tokens"], body["stream"]) == (7, 0.2, 700, False)
    assert body["messages"][-1]["content"].endswith(prompt.answer)


def test_the_key_is_sent_and_never_from_a_file_that_others_can_read(tmp_path):
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        OpenAiCompatible(settings(key_file=str(key)))
    key.chmod(0o600)
    _, seen = propose(enforcing(CLEAN), key_file=str(key))
    assert {headers["authorization"] for headers in seen.headers} == {"Bearer secret"}
    with pytest.raises(ConfigError, match="cannot be read"):
        OpenAiCompatible(settings(key_file=str(tmp_path / "none")))


def test_when_the_server_hangs_the_playbook_answers(tmp_path):
    from connectors.reasoners.cascade import Cascade

    async def story() -> Completion:
        async with serving(after_probe(hang)) as server:
            model = ModelReasoner(
                RemoteModel(settings(server.url)), demo_repertoire(), "", PlanCache(4), Lines().of("a/b")
            )
            chosen = CascadeSettings(order=("large", "playbook"), deadline_s=1.0)
            playbook = PlaybookReasoner(demo_playbook(), "0" * 64)
            return await Cascade([model, playbook], chosen, lambda c, r: "").propose(OIL)

    found = asyncio.run(story())
    assert found.reasoner == "playbook"
    assert found.tried[0].reason.startswith(("no answer within", "large gave no answer within"))
