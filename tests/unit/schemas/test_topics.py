"""The table of topics."""

import pytest

from schemas.topics import TOPICS, topic


def test_every_topic_is_there_once_under_its_version():
    names = [each.name for each in TOPICS]
    assert names == [
        "telemetry.v1", "line-events.v1", "anomalies.v1", "decisions.v1", "operator-requests.v1", "dead-letters.v1",
    ]  # fmt: skip
    assert topic("decisions.v1").retention_ms == -1
    assert {each.cleanup for each in TOPICS} == {"delete"}


def test_an_unknown_topic_is_a_mistake():
    with pytest.raises(KeyError, match=r"telemetry\.v2"):
        topic("telemetry.v2")
