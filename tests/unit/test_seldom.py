"""A library that repeats itself is heard once, and again after a pause with how often it was not."""

from __future__ import annotations

import logging

import pytest

from connectors.kafka.seldom import Seldom, hush


@pytest.fixture
def logger():
    logger = logging.getLogger("library.part")
    yield logger
    logger.filters.clear()


def test_the_same_is_said_once_and_something_else_too(logger, caplog):
    hush("library")
    hush("library")
    for number in range(5):
        logger.error("no broker %d", number)
    logger.error("another thing")
    assert [record.getMessage() for record in caplog.records] == ["no broker 0", "another thing"]


def test_after_the_pause_it_is_said_again_with_how_often_it_was_not(logger, caplog):
    seldom = Seldom(pause_s=3600.0)
    logger.addFilter(seldom)
    for number in range(3):
        logger.error("no broker %d", number)
    seldom._pause_s = 0.0
    logger.error("no broker %d", 3)
    assert caplog.records[-1].getMessage() == "no broker 3 (and 2 times more since)"
