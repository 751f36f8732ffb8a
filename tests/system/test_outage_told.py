"""A broker that is away, as the log of decide and keep tells it: two lines, and not the same words again and again."""

from __future__ import annotations

import time

import pytest

from connectors.kafka.admin import apply_topics
from tests.support.bench import Process
from tests.support.collecting_trials import until
from tests.support.kafka_broker import own_broker, settings_of
from tests.support.kafka_faults.line import configure

AWAY_S = 12.0
"""Long enough for several attempts of each part."""
STARTED_WITHIN_S, TOLD_WITHIN_S = 90.0, 60.0


@pytest.mark.timeout(300)
def test_decide_and_keep_tell_the_beginning_and_the_end_of_an_outage_once(tmp_path):
    with own_broker(tmp_path / "kafka") as cluster:
        configuration = configure(tmp_path / "config", cluster, cells_n=1)
        apply_topics(settings_of(cluster))
        logs = {name: tmp_path / f"{name}.log" for name in ("decide", "keep")}
        processes = [_started(name, configuration.folder, path) for name, path in logs.items()]
        try:
            until(lambda: "deciding" in logs["decide"].read_text(), "decide runs", STARTED_WITHIN_S)
            time.sleep(3.0)  # A look at the broker is made each second or two.
            (broker,) = cluster.brokers
            broker.kill()
            until(lambda: all(len(_lines(path)) == 1 for path in logs.values()), "it is told", TOLD_WITHIN_S)
            time.sleep(AWAY_S)
            broker.start()
            until(
                lambda: all("goes again" in "".join(_lines(path)) for path in logs.values()),
                "its end too",
                TOLD_WITHIN_S,
            )
        finally:
            for process in processes:
                process.end()
    for path in logs.values():
        began, over = _lines(path)
        assert f" jidoka.broker WARNING broker {cluster.bootstrap[0]}: " in began
        assert "tried again until it goes" in began
        assert "goes again, after " in over


def _started(name, folder, path) -> Process:
    with path.open("wb") as log:
        return Process("pipelines.cli", name, "--config", folder, stdout=log, stderr=log)


def _lines(path) -> list[str]:
    """What is said of the broker itself; what a process wants of it (writing, a topic) is told apart, once each too."""
    said = path.read_text().splitlines()
    for other in ("jidoka.decide WARNING writing", "jidoka.mirror WARNING decisions.v1"):
        assert sum(f"{other}: goes again" in line for line in said) <= 1
    return [line for line in said if " jidoka.broker " in line]
