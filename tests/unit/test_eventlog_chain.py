"""The chain, the head's text and the ids that facts are looked up by."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.eventlog.chain import genesis, head_text, link, parse_head, sign, signature_holds
from connectors.eventlog.subjects import subjects
from schemas.commands import Command
from schemas.errors import CodecError
from schemas.evidence import Evidence
from schemas.facts import Fact, OperatorRequested, PlanProposed, ReasonerAsked, SnapshotTaken, TimeReached
from schemas.plans import ReasonerRequest

RECORD: dict[str, Any] = {
    "before": bytes(32), "position": 1, "cell": b"ab", "version": 1, "type_": b"c/1", "recorded_at": 5,
    "inputs": b"{}", "data": b"{}",
}  # fmt: skip


def test_the_link_is_the_one_that_logs_on_disks_already_have() -> None:
    assert link(**RECORD).hex() == "c238f88459fe5caacc526ae88a120dd8d40652a3087eddc7ff4460f1a5eb8aec"
    assert genesis("log-1").hex() == "68da1c3a3b78a7e5a589eda17c6c024d7e95bdc1e68fac540bf847b34c3b9500"


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("before", bytes(31) + b"\1"), ("position", 2), ("cell", b"ac"), ("version", 2), ("type_", b"c/2"),
        ("recorded_at", 6), ("recorded_at", -5), ("inputs", b'{"in":1}'), ("data", b"{ }"),
    ],
)  # fmt: skip
def test_the_link_depends_on_every_column(field: str, other: Any) -> None:
    assert link(**(RECORD | {field: other})) != link(**RECORD)


def test_bytes_cannot_be_shifted_from_one_column_to_the_next() -> None:
    assert link(**(RECORD | {"cell": b"abc", "type_": b"/1"})) != link(**RECORD)


def test_a_head_survives_its_text_and_its_signature_holds() -> None:
    head = sign(Ed25519PrivateKey.from_private_bytes(bytes(32)), "log-1", 3, bytes(range(32)), 17)
    assert parse_head(head_text(head)) == head
    assert signature_holds(head, head.public_key)
    assert not signature_holds(head, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    assert not signature_holds(head, b"short")


def test_no_bit_of_a_heads_text_can_flip_unseen() -> None:
    head = sign(Ed25519PrivateKey.from_private_bytes(bytes(32)), "log-1", 3, bytes(range(32)), 17)
    text = head_text(head)
    for bit in range(len(text) * 8):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            read = parse_head(bytes(flipped))
        except CodecError:
            continue
        assert read.public_key != head.public_key or not signature_holds(read, head.public_key)


@pytest.mark.parametrize("text", [b"", b"\n", b"jidoka log head 1\n", b"\xff", b"jidoka log head 2\n" + b"a b\n" * 6])
def test_other_text_is_no_head(text: bytes) -> None:
    with pytest.raises(CodecError):
        parse_head(text)


def _command(command_id: str, plan_id: str, incident_id: str) -> Command:
    return Command(command_id, plan_id, incident_id, "gripper", "slow", "Slow", {}, {}, "plan")


@pytest.mark.parametrize(
    ("fact", "ids"),
    [
        (TimeReached(at=1, wake_id="w"), set()),
        (SnapshotTaken(at=1, subject_id="c-1", read_at=1, readings={}, off_file=False), {"c-1"}),
        (OperatorRequested(at=1, request_id="r", who="ann", kind="approve", target="c-1"), {"r", "c-1"}),
        (OperatorRequested(at=1, request_id="r", who="ann", kind="request", target="slow"), {"r"}),
        (
            ReasonerAsked(at=1, request=ReasonerRequest("r", "i", "reflex", (), Evidence(1, (), {}, "EXECUTE"), 1.0)),
            {"r", "i"},
        ),
        (
            PlanProposed(
                at=1, plan_id="p", incident_id="", origin="operator", tier="proposal", who="ann", findings=(),
                commands=(_command("c-1", "p", ""), _command("c-2", "p", "i")),
            ),
            {"p", "c-1", "c-2", "i"},
        ),
    ],
)  # fmt: skip
def test_a_fact_is_found_by_these_ids(fact: Fact, ids: set[str]) -> None:
    assert subjects(fact) == ids
