"""deploy/compose.yaml: the same broker as the tests', pinned, on the loopback, with the same promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connectors.kafka.properties import Node, server_properties

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/compose.yaml").read_text()


def read(text: str) -> dict:
    """Read the part of YAML that a compose file needs: mappings by indentation, lists of scalars, comments."""
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines()]
    lines = [(indent, line) for indent, line in lines if line and not line.startswith("#")]
    value, rest = _mapping(lines, 0)
    assert not rest, f"not understood: {rest[0][1]}"
    return value


def _mapping(lines: list[tuple[int, str]], indent: int) -> tuple[dict, list[tuple[int, str]]]:
    found: dict = {}
    while lines and lines[0][0] == indent and not lines[0][1].startswith("- "):
        match = re.fullmatch(r"([A-Za-z_]+):(?: (.+))?", lines[0][1])
        assert match, f"not understood: {lines[0][1]}"
        name, said = match.groups()
        assert name not in found, f"{name} is there twice"
        lines = lines[1:]
        if said is not None:
            found[name] = _scalar(said)
        elif lines and lines[0][0] > indent:
            found[name], lines = _below(lines)
        else:
            found[name] = None
    return found, lines


def _below(lines: list[tuple[int, str]]) -> tuple[object, list[tuple[int, str]]]:
    indent = lines[0][0]
    if not lines[0][1].startswith("- "):
        return _mapping(lines, indent)
    items = []
    while lines and lines[0][0] == indent:
        items.append(_scalar(lines[0][1].removeprefix("- ")))
        lines = lines[1:]
    return items, lines


def _scalar(text: str) -> str:
    if text.startswith('"'):
        assert re.fullmatch(r'"[^"\\]*"', text), f"not understood: {text}"
        return text[1:-1]
    # Unquoted, these would mean something else than they say.
    assert re.fullmatch(r"[a-z0-9-]+", text), f"quote it: {text}"
    assert text not in ("yes", "no", "on", "off", "true", "false", "null"), f"quote it: {text}"
    return text


@pytest.mark.parametrize("wrong", ["a:\n   b: c\n  d: e\n", "a: b\na: c\n", 'a: "b\n', "a: no\n", "a\n", "a: {b: c}\n"])
def test_what_is_no_plain_yaml_would_be_seen(wrong):
    with pytest.raises(AssertionError):
        read(wrong)


def test_the_broker_is_the_one_that_the_tests_run():
    pom = (ROOT / "deploy/kafka/pom.xml").read_text()
    version = re.search(r"<kafka\.version>(.+)</kafka\.version>", pom)[1]
    assert read(TEXT)["services"]["kafka"]["image"] == f"apache/kafka:{version}"


def test_every_image_is_pinned_and_every_port_is_on_the_loopback():
    services = read(TEXT)["services"]
    assert sorted(services) == ["kafka", "postgres"]
    for service in services.values():
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?", service["image"])
        assert service["ports"]
        assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in service["ports"])
        assert service["healthcheck"]["test"]


def test_the_broker_promises_what_the_one_of_the_tests_does():
    environment = read(TEXT)["services"]["kafka"]["environment"]
    node = Node(1, 9092, 9093)
    ours = dict(line.split("=", 1) for line in server_properties(node, [node], Path("x"), {}, None).splitlines())
    for name in ("auto.create.topics.enable", "offsets.topic.replication.factor", "process.roles",
                 "transaction.state.log.replication.factor", "transaction.state.log.min.isr"):  # fmt: skip
        assert environment["KAFKA_" + name.upper().replace(".", "_")] == ours[name]
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == ours["advertised.listeners"]
    assert "unclean.leader.election.enable" not in ours
    assert "KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE" not in environment


def test_volumes_and_secrets_that_services_name_are_declared():
    whole = read(TEXT)
    named = [volume.partition(":")[0] for service in whole["services"].values() for volume in service["volumes"]]
    assert sorted(named) == sorted(whole["volumes"])
    assert whole["services"]["postgres"]["secrets"] == list(whole["secrets"])
