"""An outage is told when it begins and when it is over, whatever lies between."""

from __future__ import annotations

import logging

import pytest

from connectors.kafka.outage import KINDS_MAX, Outage


@pytest.fixture
def outage():
    return Outage(logging.getLogger("jidoka.test"), "decisions.v1")


def test_beginning_and_end_are_one_line_each_however_often_it_is_tried(outage, caplog):
    for number in range(50):
        outage.is_on(TimeoutError(f"attempt {number}"))
    outage.is_over()
    outage.is_over()
    assert [record.getMessage() for record in caplog.records] == [
        "decisions.v1: TimeoutError: attempt 0; tried again until it goes",
        "decisions.v1: goes again, after 0 s",
    ]


def test_reason_of_another_kind_is_said_too_and_the_next_outage_begins_anew(outage, caplog):
    for error in (TimeoutError("a"), OSError("b"), TimeoutError("c")):
        outage.is_on(error)
    outage.is_over()
    outage.is_on(TimeoutError("d"))
    said = [record.getMessage().split(": ")[1:] for record in caplog.records]
    assert [words[:1] for words in said] == [["TimeoutError"], ["OSError"], ["goes again, after 0 s"], ["TimeoutError"]]


def test_kinds_of_one_outage_are_bounded(outage, caplog):
    for number in range(2 * KINDS_MAX):
        outage.is_on(type(f"Fault{number}", (Exception,), {})())
    assert len(caplog.records) == KINDS_MAX


def test_nothing_is_said_of_what_goes(outage, caplog):
    outage.is_over()
    assert caplog.records == []
