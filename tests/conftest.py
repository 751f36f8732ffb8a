"""Fixtures that several test modules share."""

import warnings

with warnings.catch_warnings():
    # kafka-python 3.0 reads its message tables, once, by a function that Python 3.11 wants replaced.
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka.errors  # noqa: F401

import pytest

from tests.support.kafka_broker import kafka_broker
from tests.support.postgres import postgres, postgres_server

__all__ = ["kafka_broker", "postgres", "postgres_server"]

LONGEST = (
    "test_demo.py", "test_kafka_faults.py", "test_kill9.py", "test_demo_over_kafka.py", "test_secured_runtime.py",
    "test_server_restarts.py", "test_outage_told.py", "test_plant_topics.py", "test_decide_dealt.py",
    "test_collector_kafka.py", "test_closed_loop.py", "test_crash_points.py",
)  # fmt: skip
"""Files that take about a minute and more. They begin first: a worker that begins one last is waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the rest stays as it is."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))
