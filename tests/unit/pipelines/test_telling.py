"""How a process tells of itself: a loop that hangs is told as hung, figures parse, a taken port is named."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.operation.common import counter, gauge
from pipelines.operation.health import Health
from pipelines.operation.server import CLIENTS_MAX, TURN_S, telling
from schemas.errors import ConnectionFault
from schemas.settings import HttpSettings


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port: int, path: str, **headers: str) -> tuple[int, str, bytes]:
    """Return status, content type and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with closing(urllib.request.urlopen(request, timeout=10)) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.headers["Content-Type"], error.read()


class Told:
    name = "collect"

    def __init__(self, *, ok: bool = True) -> None:
        self.ok = ok

    async def checks(self):
        return [Health("spool", True, "3 %"), Health("broker", self.ok, "as it is")]

    async def families(self):
        lags = {("3",): 7.0, ("4",): 0.0}
        return [counter("jidoka_x_total", "So many.", 5), gauge("jidoka_lag", "Waiting.", lags, ["partition"])]


def told(work, *, ok: bool = True):
    """Run `work(port)` in a thread beside a loop that tells."""

    async def go():
        async with telling(HttpSettings(port=free_port()), Told(ok=ok)) as port:
            return await asyncio.to_thread(work, port)

    return asyncio.run(go())


def test_a_process_that_does_its_work_is_healthy_and_ready():
    answers = told(lambda port: (ask(port, "/healthz"), ask(port, "/readyz")))
    assert [status for status, _, _ in answers] == [200, 200]
    assert json.loads(answers[1][2]) == {
        "process": "collect",
        "ok": True,
        "checks": [
            {"name": "spool", "ok": True, "detail": "3 %"},
            {"name": "broker", "ok": True, "detail": "as it is"},
        ],
    }


def test_one_check_that_fails_makes_it_not_ready_and_leaves_it_healthy():
    healthy, ready = told(lambda port: (ask(port, "/healthz"), ask(port, "/readyz")), ok=False)
    assert (healthy[0], ready[0]) == (200, 503)
    assert [each["name"] for each in json.loads(ready[2])["checks"] if not each["ok"]] == ["broker"]


def test_figures_parse_and_say_what_ready_says():
    _, content_type, body = told(lambda port: ask(port, "/metrics"), ok=False)
    assert content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["jidoka_x_total",] == 5
    assert (values["jidoka_lag", "3"], values["jidoka_lag", "4"]) == (7, 0)
    assert (values["jidoka_ready",], values["jidoka_check_ok", "spool"], values["jidoka_check_ok", "broker"]) == (
        0,
        1,
        0,
    )
    assert values["process_cpu_seconds_total",] > 0


def test_a_scraper_that_wants_openmetrics_gets_it():
    _, content_type, body = told(
        lambda port: ask(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    )
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_loop_that_hangs_is_told_as_hung_and_well_again_when_it_turns(path):
    async def go():
        async with telling(HttpSettings(port=free_port()), Told()) as port:
            answers: list[tuple[int, str, bytes]] = []
            asking = threading.Thread(target=lambda: answers.append(ask(port, path)))
            asking.start()
            time.sleep(TURN_S + 0.5)  # On the loop: nothing turns.
            await asyncio.to_thread(asking.join)
            return answers[0], await asyncio.to_thread(ask, port, path)

    (hung, _, body), (after, _, _) = asyncio.run(go())
    assert (hung, after) == (503, 200)
    assert "did not answer" in json.loads(body)["checks"][0]["detail"]


def test_a_port_that_is_taken_is_named_with_what_to_do():
    async def go(port):
        async with telling(HttpSettings(port=port), Told()):
            pass

    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConnectionFault, match=rf"{port}.*--http PORT"):
            asyncio.run(go(port))


def test_port_0_lets_nothing_listen():
    before = threading.active_count()

    async def go():
        async with telling(HttpSettings(port=0), Told()) as port:
            return port, threading.active_count()

    assert asyncio.run(go()) == (0, before)


def test_another_path_is_not_found():
    status, _, body = told(lambda port: ask(port, "/"))
    assert status == 404
    assert b"/readyz" in body


def test_more_clients_than_there_is_room_for_are_turned_away_and_the_rest_is_answered():
    def crowd(port):
        with Silent(port, CLIENTS_MAX) as silent:
            time.sleep(0.3)
            with pytest.raises((ConnectionError, urllib.error.URLError)):
                ask(port, "/healthz")
            for each in silent:
                each.close()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                return ask(port, "/healthz")[0]
            except (ConnectionError, urllib.error.URLError):
                time.sleep(0.05)
        raise AssertionError("never answered again")

    assert told(crowd) == 200


class Silent:
    """So many connections that say nothing."""

    def __init__(self, port: int, n: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(n)]

    def __enter__(self) -> list[socket.socket]:
        return self._sockets

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()
