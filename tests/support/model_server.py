"""A chat server on the loopback that behaves as servers do: keeps to the schema, ignores it, hangs, talks rubbish.

It speaks HTTP by itself, so that it can also break off in the middle.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Reply = Callable[["ModelServer", dict[str, Any], asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ModelServer:
    """What was asked, and how it is answered."""

    reply: Reply
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            assert head[0].startswith("POST /v1/chat/completions "), head[0]
            self.bodies.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
            self.headers.append(headers)
            await self.reply(self, self.bodies[-1], writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[ModelServer]:
    """A server that replies so, on a free port."""
    model = ModelServer(reply)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await model.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield model
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def http(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", length: int | None = None) -> None:
    """Write a response; another `length` than it has makes it a broken one."""
    size = len(body) if length is None else length
    writer.write(
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n"
        "connection: close\r\n\r\n".encode()
        + body
    )


def completion(said: str, **changes: Any) -> bytes:
    """A chat completion as servers send it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c1", "object": "chat.completion", "model": "served-1", "choices": [{**choice, **changes}]}
    ).encode()


def schema_of(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema that a request tells to keep to, in whichever form."""
    form = body["response_format"]
    return form.get("schema") or form.get("json_schema", {}).get("schema")


def smallest(schema: dict[str, Any]) -> Any:
    """The first value that a schema allows: what an enforcing server may say whatever its model thinks."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "array":
        return []
    return {name: smallest(each) for name, each in schema["properties"].items()}


def enforcing(said: str) -> Reply:
    """Enforces the schema: the probe's answer is the probe's, and any other question is answered with `said`."""

    async def reply(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        schema = schema_of(body)
        assert schema is not None
        probed = "code" in schema["properties"]
        http(writer, completion(json.dumps(smallest(schema)) if probed else said))

    return reply


def ignoring(said: str) -> Reply:
    """Accepts the schema and does not keep to it."""

    async def reply(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        http(writer, completion(said))

    return reply


def after_probe(then: Reply) -> Reply:
    """Passes the probe, then behaves otherwise."""

    async def reply(server: ModelServer, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        probe = "code" in (schema_of(body) or {"properties": {}})["properties"]
        await (enforcing("")(server, body, writer) if probe else then(server, body, writer))

    return reply
