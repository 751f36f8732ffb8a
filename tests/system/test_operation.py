"""The processes of the Kafka runtime on a real broker, with the simulated cell: what they tell of themselves holds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from connectors.clock import SystemClock
from connectors.kafka.admin import apply_topics
from connectors.kafka.broker import Cluster
from pipelines.config import Configuration
from pipelines.demo.setting import configure
from schemas.observations import Observation, encode_observation
from schemas.settings import KafkaSettings
from schemas.topics import partition_of
from tests.support.bench import Process, jidoka
from tests.support.kafka_broker import admin_of, emptied, own_broker, plain, settings_of
from tests.support.quick_plant import CONFIG
from tests.unit.test_dashboards import told

PLANT = "connectors.plant.process"
NAMES = ("collect", "detect", "decide", "keep")
SPEED = 4.0
SOON_S = 120.0
ASK_S = 4.0
Answers = dict[str, tuple[int, dict[str, Any]]]


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as probes:
        opened = [probes.enter_context(closing(socket.socket())) for _ in range(n)]
        for probe in opened:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in opened]


def ask(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body; 0 where nobody answers."""
    try:
        with closing(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=ASK_S)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.read()
    except OSError as error:
        return 0, repr(error).encode()


class World:
    """Broker, cell and the four processes, each with a port of its own."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        origin_us = SystemClock().now_us()
        words = ["--data", folder / "plant", "--speed", SPEED, "--seed", 1, "--origin-us", origin_us, "--port", 0]
        self.plant = Process(PLANT, *words)
        self.processes: dict[str, Process] = {}
        ready = json.loads(self.plant.first_line())
        self.configuration: Configuration = configure(
            folder, ready, SPEED, origin_us, broker=KafkaSettings(bootstrap=cluster.bootstrap)
        )
        kafka = self.configuration.settings.kafka
        assert kafka is not None
        apply_topics(kafka)
        self.ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))

    def start(self, name: str) -> None:
        words = ["--config", self.folder / "config", "--http", self.ports[name], "--log", "json"]
        self.processes[name] = Process("pipelines.cli", name, *words)

    def ready(self) -> Answers:
        """Ask all; the body of one that does not answer is empty."""
        answers = {name: ask(port, "/readyz") for name, port in self.ports.items()}
        return {name: (status, json.loads(body) if status else {}) for name, (status, body) in answers.items()}

    def until(self, holds: Callable[[Answers], bool]) -> Answers:
        until_s = time.monotonic() + SOON_S
        while not holds(answers := self.ready()):
            assert time.monotonic() < until_s, answers
            time.sleep(0.3)
        return answers

    def all_ready(self) -> Answers:
        return self.until(lambda answers: {status for status, _ in answers.values()} == {200})

    def close(self) -> dict[str, Any]:
        said = {name: process.end() for name, process in self.processes.items()}
        self.plant.end()
        return said


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("operation")
    with own_broker(folder / "kafka") as cluster:
        made = World(folder, cluster)
        try:
            for name in NAMES:
                made.start(name)
            made.all_ready()
            yield made
        finally:
            made.close()


def failing(answer: dict[str, Any]) -> set[str]:
    return {check["name"].split()[0] for check in answer["checks"] if not check["ok"]}


def metrics(port: int) -> dict[tuple[str, ...], float]:
    """Every sample of a process by name and label values."""
    status, body = ask(port, "/metrics")
    assert status == 200, body
    families = text_string_to_metric_families(body.decode())
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_all_are_ready_and_each_check_says_what_it_saw(world):
    answers = world.all_ready()
    assert {name: answer["process"] for name, (_, answer) in answers.items()} == {name: name for name in NAMES}
    checks = {name: {check["name"].split()[0] for check in answer["checks"]} for name, (_, answer) in answers.items()}
    assert checks == {
        "collect": {"source", "spool", "disk", "broker"},
        "detect": {"assignment", "broker", "lag", "commits"},
        "decide": {"cells", "input", "store", "disk", "consumer", "broker", "lag", "mirror"},
        "keep": {"keeping", "broker", "lag", "disk"},
    }
    assert [ask(port, "/healthz")[0] for port in world.ports.values()] == [200] * len(NAMES)


def test_the_figures_of_all_together_are_those_that_the_code_names_and_agree(world):
    until_s = time.monotonic() + SOON_S
    while ("jidoka_detect_committed_offset" not in {key[0] for key in metrics(world.ports["detect"])}
           and time.monotonic() < until_s):  # fmt: skip
        time.sleep(0.2)  # The first commit comes with the first save.
    found = {name: metrics(port) for name, port in world.ports.items()}
    names = {key[0] for one in found.values() for key in one}
    base = {name for name in told() if name.startswith("jidoka_") and not name.endswith("_seconds")}
    assert {name for name in base - names if name not in {"jidoka_detect_unsaved_age_seconds"}} == set()
    cell = world.configuration.plant.cells[0].path
    assert found["collect"]["jidoka_collect_samples_taken_total",] > 0
    assert found["collect"]["jidoka_collect_samples_lost_total",] == 0
    taken = found["detect"]["jidoka_detect_messages_total",]
    assert 0 < taken <= metrics(world.ports["collect"])["jidoka_collect_messages_sent_total",] + 10
    assert found["detect"]["jidoka_detect_messages_missing_total", cell] == 0
    assert found["decide"]["jidoka_decide_facts_total", cell, "agent.started/1"] >= 1
    assert found["decide"]["jidoka_decide_append_seconds_count",] > 0
    assert found["decide"]["jidoka_decide_commands", cell, "unresolved"] == 0
    assert found["keep"]["jidoka_keep_position", cell] > 0


def test_what_decide_cannot_use_is_counted(world):
    cell = world.configuration.plant.cells[0].path
    kafka = world.configuration.settings.kafka
    stranger = Observation("a/b/c/d/stranger", 1, 0, 1, 1, "s", True)
    before = metrics(world.ports["decide"])
    with closing(KafkaProducer(**plain(world.cluster))) as plant:
        for key, value in [(stranger.cell, encode_observation(stranger))] * 3 + [(cell, b"no observation")]:
            number = partition_of(key, kafka.partitions)
            plant.send("anomalies.v1", value, key.encode(), partition=number).get(timeout=30)
    names = ("jidoka_decide_passed_over_total", "jidoka_decide_dead_letters_total")
    until_s, counted = time.monotonic() + SOON_S, []
    while counted != [3, 2] and time.monotonic() < until_s:
        time.sleep(0.2)
        after = metrics(world.ports["decide"])
        counted = [after[name,] - before[name,] for name in names]
    # The stranger's first one and the unreadable one are letters, its other two are only counted.
    assert counted == [3, 2]


def test_the_doctor_finds_all_well(world):
    said = jidoka("doctor", "--config", world.folder / "config")
    assert said.status == 0, said.out
    for words in ("kafka: brokers: 1 of the cluster", "kafka: topics: ", "are as they must be", "kafka: copies: all of",
                  "kafka: group jidoka-detect: 1 members", "kafka: clock: the broker is ", "here: spool: ",
                  "here: states: states.sqlite in the data folder"):  # fmt: skip
        assert words in said.out, said.out


def test_a_process_that_is_stopped_does_not_answer_and_answers_when_it_goes_on(world):
    process = world.processes["keep"]
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert ask(world.ports["keep"], "/healthz")[0] == 0
    finally:
        os.kill(process.pid, signal.SIGCONT)
    world.until(lambda answers: answers["keep"][0] == 200)


def test_without_a_broker_none_is_ready_all_are_healthy_and_with_it_all_are_again(world):
    world.cluster.brokers[0].stop()
    try:
        away = world.until(lambda answers: {status for status, _ in answers.values()} == {503})
        healthy = [ask(port, "/healthz")[0] for port in world.ports.values()]
    finally:
        world.cluster.brokers[0].start()
    assert {name for name, (_, answer) in away.items() if "broker" in failing(answer)} == set(NAMES)
    assert healthy == [200] * len(NAMES)
    world.all_ready()


def test_the_process_log_is_one_object_a_line(world):
    said = world.close()
    lines = [json.loads(line) for each in said.values() for line in each.err.splitlines()]
    assert {line["process"] for line in lines} >= {"collect", "decide", "detect"}
    assert all({"time", "level", "logger", "message", "pid"} <= line.keys() for line in lines)
    assert [each.status for each in said.values()] == [0] * len(NAMES), said
    assert [each.out for each in said.values()] == [""] * len(NAMES)


def test_the_doctor_names_a_topic_that_is_missing_and_one_that_is_wrong(world, tmp_path):
    apply_topics(settings_of(emptied(world.cluster)))
    with admin_of(world.cluster) as admin:
        admin.delete_topics(["decisions.v1"])
    folder = tmp_path / "config"
    folder.mkdir()
    for path in CONFIG.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    with (folder / "jidoka.toml").open("a") as file:
        file.write(f'\n[kafka]\nbootstrap = ["{world.cluster.bootstrap[0]}"]\npartitions = 4\nreplication = 1\n')
    said = jidoka("doctor", "--config", folder)
    assert said.status == 1
    assert (
        "MEND  kafka: topic decisions.v1: topic is missing, must be there\n      -> Run: jidoka topics apply."
        in said.out
    )
    assert "MEND  kafka: topic telemetry.v1: partitions is 3, must be 4" in said.out
    assert "ok    kafka: copies: all of 15 partitions are in step" in said.out
    # With a place of its own idea a worker would put observations where nobody looks for them.
    refused = jidoka("up", "--config", folder)
    assert refused.status == 2
    assert "jidoka.toml: kafka.partitions: telemetry.v1: partitions is 3, must be 4" in refused.err
    assert "set kafka.partitions = 3" in refused.err


def test_the_doctor_says_which_broker_does_not_answer(tmp_path):
    (port,) = free_ports(1)
    folder = tmp_path / "config"
    folder.mkdir()
    for path in CONFIG.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    said = jidoka("doctor", "--config", folder, "--kafka", f"127.0.0.1:{port}")
    assert said.status == 1
    assert f"MEND  kafka: broker 127.0.0.1:{port}: " in said.out
    assert "nothing listens there" in said.out
