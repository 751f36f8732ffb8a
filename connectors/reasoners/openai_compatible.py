"""A language model behind an HTTP server with the chat interface that OpenAI made common.

Each server is told in its own form which answers are legal. That a server accepts the form says nothing: some ignore
it in silence. So before the first question it is asked for something that no model would say by itself (`probe`), and
one that does not say it is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from schemas.errors import ConfigError, ConnectionFault
from schemas.reasoning import Message, Prompt
from schemas.settings import ServerSettings

ANSWER_BYTES_MAX: Final = 1_000_000
"""Of a response, read as it comes: a server cannot fill the memory."""
RETRY_PAUSE_S: Final = 0.2
"""Before the one second attempt, after a failure that may pass."""
PASSING: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Status codes after which it is tried once more."""
GIVES_LOGPROBS: Final = frozenset({"vllm", "sglang", "llama_cpp", "openai"})
"""Servers that are asked for the probability of each token; others refuse the question or give none."""
FORMAT: Final = """

Answer with the arguments of {function} as one JSON object and nothing else. It must be of this JSON Schema:
{schema}"""
ERROR_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Replied:
    """An answer with what the server says about it."""

    said: str
    confidence: float | None
    """The probability of the least certain token, 0..1; None: the server gives none."""
    details: Mapping[str, str] = field(default_factory=dict)


class OpenAiCompatible:
    """One server."""

    def __init__(self, settings: ServerSettings) -> None:
        """Take the settings. Nothing is sent.

        Raises:
            ConfigError: the key file cannot be read, or others can read it.
        """
        self._settings = settings
        self._headers = {"authorization": f"Bearer {key}"} if (key := _key(settings)) else {}
        self._trust = ssl.create_default_context(cafile=settings.ca or None)

    async def ask(self, prompt: Prompt, *, deadline_s: float) -> Replied:
        """Ask once, and once more after a failure that may pass.

        Raises:
            ConnectionFault: no answer in time, or none that is an answer.
        """
        return await self._within(deadline_s, request_body(self._settings, prompt, shown=True))

    async def probe(self, nonce: str, *, deadline_s: float) -> str:
        """Say what is wrong with how the server keeps to a schema; empty: it does.

        Args:
            nonce: Letters that no model would say by itself, another one each time.
            deadline_s: Wall time for it.

        Raises:
            ConnectionFault: no answer.
        """
        try:
            said = (await self._within(deadline_s, request_body(self._settings, probe_prompt(nonce), shown=False))).said
        except CutOff as error:
            said = error.said  # What the schema allows is short: a server that keeps to it comes to an end.
        try:
            found = json.loads(said)
        except (ValueError, RecursionError):
            found = None
        if found == {"code": nonce}:
            return ""
        settings = self._settings
        return f"{settings.server} at {settings.url} does not keep to a schema: it said {said[:80]!r}"

    async def _within(self, deadline_s: float, body: Mapping[str, Any]) -> Replied:
        try:
            async with asyncio.timeout(deadline_s):
                return await self._ask(body)
        except TimeoutError as error:
            raise ConnectionFault(f"{self._settings.name} gave no answer within {deadline_s:.3g} s") from error

    async def _ask(self, body: Mapping[str, Any]) -> Replied:
        try:
            return await self._post(body)
        except _Passing as error:
            first = str(error)
        await asyncio.sleep(RETRY_PAUSE_S)
        try:
            replied = await self._post(body)
        except _Passing as second:
            raise ConnectionFault(f"{self._settings.name}: {second}, after {first}") from second
        return Replied(replied.said, replied.confidence, {**replied.details, "retried": first})

    def _client(self) -> httpx.AsyncClient:
        """Return a client for one question. No proxy and no credentials come out of the environment."""
        return httpx.AsyncClient(
            base_url=self._settings.url.rstrip("/"),
            headers=self._headers,
            verify=self._trust,
            timeout=None,  # the deadline is around all of it
            trust_env=False,
            follow_redirects=False,
        )

    async def _post(self, body: Mapping[str, Any]) -> Replied:
        try:
            async with self._client() as client, client.stream("POST", "/chat/completions", json=body) as response:
                received = await _bounded(response)
        except httpx.HTTPError as error:
            raise _Passing(f"{type(error).__name__} {error}".strip()) from error
        text = received.decode("utf-8", "replace")
        if response.status_code in PASSING:
            raise _Passing(f"HTTP {response.status_code}: {text[:ERROR_CHARS_MAX]}")
        if response.status_code != 200:
            raise ConnectionFault(f"{self._settings.name}: HTTP {response.status_code}: {text[:ERROR_CHARS_MAX]}")
        replied = read_reply(text)
        return Replied(
            replied.said,
            replied.confidence,
            {**replied.details, "response_sha256": hashlib.sha256(received).hexdigest()},
        )


class CutOff(ConnectionFault):
    """An answer that had no end when the server stopped it."""

    def __init__(self, said: str) -> None:
        super().__init__("the answer was cut off at tokens_max")
        self.said = said


class _Passing(Exception):
    """A failure that may be gone in a moment."""


async def _bounded(response: httpx.Response) -> bytes:
    received = bytearray()
    async for part in response.aiter_bytes():
        received += part
        if len(received) > ANSWER_BYTES_MAX:
            raise ConnectionFault(f"the response is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(received)


def request_body(settings: ServerSettings, prompt: Prompt, *, shown: bool) -> dict[str, Any]:
    """Return what is sent: messages, sampling, and the legal answers in the server's own form.

    Args:
        settings: Of the server.
        prompt: The question.
        shown: Whether the model reads the schema too: servers that enforce it do not show it.
    """
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    if shown:
        messages[-1]["content"] += FORMAT.format(function=prompt.function, schema=prompt.answer)
    return {
        "model": settings.model,
        "messages": messages,
        "temperature": settings.temperature,
        "seed": settings.seed,
        "max_tokens": settings.tokens_max,
        "stream": False,
        "response_format": response_format(settings.server, json.loads(prompt.answer)),
        **({"logprobs": True} if settings.server in GIVES_LOGPROBS else {}),
    }


def response_format(server: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return how a server is told to keep to a schema."""
    match server:
        case "llama_cpp":
            return {"type": "json_object", "schema": schema}
        case "dashscope":
            # It enforces no schema for Qwen2.5, and wants the word JSON in the messages.
            return {"type": "json_object"}
        case _:
            # vLLM (with `guided_json` before 0.12 and `structured_outputs` since), SGLang and Ollama (as `format`) all
            # take OpenAI's own form too, in every version.
            return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def read_reply(text: str) -> Replied:
    """Read a server's response.

    Raises:
        ConnectionFault: it is no chat completion, or the answer was cut off.
    """
    try:
        reply = json.loads(text)
        choice = reply["choices"][0]
        said = _content(choice["message"])
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ConnectionFault(f"the response is no chat completion: {text[:ERROR_CHARS_MAX]!r}") from error
    if choice.get("finish_reason") == "length":
        raise CutOff(said)
    told = {key: str(reply[key]) for key in ("id", "model", "system_fingerprint") if reply.get(key)}
    return Replied(said, _least(choice), {f"server_{key}": value[:ERROR_CHARS_MAX] for key, value in told.items()})


def _content(message: Mapping[str, Any]) -> str:
    """Return the answer, from a function call if there is one."""
    calls = message.get("tool_calls")
    said = calls[0]["function"]["arguments"] if calls else message["content"]
    if not isinstance(said, str):
        raise TypeError("an answer is text")
    return said.strip()


def _least(choice: Mapping[str, Any]) -> float | None:
    """Return the probability of the least certain token, where the server tells it in OpenAI's form."""
    try:
        logs = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
    except (LookupError, TypeError, ValueError):
        return None
    least = min(logs, default=0.0)
    return math.exp(min(least, 0.0)) if least == least else None


def probe_prompt(nonce: str) -> Prompt:
    """Return a question to which only a server that enforces the schema gives the answer that is wanted.

    The model is told to answer otherwise, and never told the nonce.
    """
    schema = {
        "type": "object",
        "properties": {"code": {"const": nonce}},
        "required": ["code"],
        "additionalProperties": False,
    }
    return Prompt(
        messages=(Message("system", "You answer in JSON."), Message("user", "How many legs has a cat?")),
        function="answer",
        description="",
        parameters="{}",
        answer=json.dumps(schema, separators=(",", ":")),
    )


def _key(settings: ServerSettings) -> str:
    if not settings.key_file:
        return ""
    path = Path(settings.key_file)
    field_name = f"reasoners.{settings.name}.key_file"
    try:
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            raise ConfigError("jidoka.toml", field_name, f"others can read {path}", f"chmod 600 {path}")
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            "jidoka.toml", field_name, f"{path} cannot be read: {error.strerror}", "Write the key into it"
        ) from error
