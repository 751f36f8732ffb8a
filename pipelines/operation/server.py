"""`/metrics`, `/healthz` and `/readyz` of one process: a small HTTP server in a thread of its own.

The thread knows nothing by itself: it asks the process's event loop, where everything that is told may be read without
locks, and waits `TURN_S` for it. So a loop that hangs is told as hung, and one of a stopped process not at all.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.metadata
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder

from pipelines.operation.health import Health, Told
from schemas.errors import ConnectionFault
from schemas.settings import HttpSettings

TURN_S: Final = 2.0
"""Wall time for the event loop to answer; one that takes longer is told as hung."""
CLIENT_S: Final = 5.0
"""Wall time for a client to send its request and to take the answer."""
CLIENTS_MAX: Final = 8
"""Requests at the same time; more are turned away."""
JSON: Final = "application/json; charset=utf-8"

Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


@asynccontextmanager
async def telling(settings: HttpSettings, told: Told) -> AsyncIterator[int]:
    """Answer on the settings' port until the block ends; gives the port. Port 0 in the settings: nothing listens.

    Raises:
        ConnectionFault: the port is taken, or the address is not of this machine.
    """
    if not settings.port:
        yield 0
        return
    server = _Server(settings, Answers(told, asyncio.get_running_loop()))
    thread = threading.Thread(target=server.serve_forever, name="http", kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)


class Answers:
    """What is answered on which path; any thread but the loop's own."""

    def __init__(self, told: Told, loop: asyncio.AbstractEventLoop) -> None:
        self._told, self._loop = told, loop
        self._process = CollectorRegistry()
        # CPU, memory, open files of this process, by the names that every dashboard knows.
        ProcessCollector(registry=self._process)

    def to(self, path: str, accept: str) -> Answer:
        """Return the answer to a request for a path."""
        match path:
            case "/healthz":
                return self._on_loop(self._health())
            case "/readyz":
                return self._on_loop(self._readiness())
            case "/metrics":
                return self._on_loop(self._metrics(accept))
            case _:
                return HTTPStatus.NOT_FOUND, JSON, b'{"error": "ask /metrics, /healthz or /readyz"}\n'

    def _on_loop(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        ending = [Health("loop", False, "the process is ending")]
        try:
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # The loop is closed.
            work.close()
            return self._report(ending)
        try:
            return asked.result(TURN_S)
        except concurrent.futures.TimeoutError:
            asked.cancel()
            return self._report([Health("loop", False, f"the main loop did not answer within {TURN_S:g} s")])
        except concurrent.futures.CancelledError:
            return self._report(ending)

    async def _health(self) -> Answer:
        return self._report([Health("loop", True, "the main loop turns")])

    async def _readiness(self) -> Answer:
        return self._report(await self._told.checks())

    async def _metrics(self, accept: str) -> Answer:
        checks = await self._told.checks()
        families = [*_general(self._told.name, checks), *self._process.collect(), *await self._told.families()]
        encode, content_type = choose_encoder(accept)
        return HTTPStatus.OK, content_type, encode(_registry_of(families))

    def _report(self, checks: Sequence[Health]) -> Answer:
        ok = all(check.ok for check in checks)
        body = {
            "process": self._told.name,
            "ok": ok,
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
        }
        status = HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
        return status, JSON, json.dumps(body, indent=1).encode() + b"\n"


def _general(process: str, checks: Sequence[Health]) -> list[Any]:
    version = InfoMetricFamily("jidoka_process", "Which process of which version this is.")
    version.add_metric([], {"process": process, "version": importlib.metadata.version("jidoka")})
    ready = GaugeMetricFamily("jidoka_ready", "1: the process does its work, as /readyz says.")
    ready.add_metric([], float(all(check.ok for check in checks)))
    each = GaugeMetricFamily("jidoka_check_ok", "Each check of /readyz.", labels=["check"])
    for check in checks:
        each.add_metric([check.name], float(check.ok))
    return [version, ready, each]


def _registry_of(families: Iterable[Any]) -> CollectorRegistry:
    class Collected:
        def collect(self) -> Iterable[Any]:
            return families

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected())
    return registry


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, settings: HttpSettings, answers: Answers) -> None:
        self.answers = answers
        self._places = threading.BoundedSemaphore(CLIENTS_MAX)
        try:
            super().__init__((settings.host, settings.port), _Handler)
        except OSError as error:
            raise ConnectionFault(
                f"http: {settings.host}:{settings.port}: {error.strerror or error}. Give each process a port of its "
                "own: --http PORT, or http.port in jidoka.toml."
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, a bounded number at a time."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Say nothing of a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_S
    server_version, sys_version = "jidoka", ""
    server: _Server

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        status, content_type, body = self.server.answers.to(path, self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  # the library's name

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests out of the log: there is one every few seconds."""
