"""Faults on a real broker, under load, one of each: nothing lost, nothing doubled, nothing done twice, back by itself.

`make soak` runs twenty of each, with pauses of a minute. Here those that need no broker of their own share one line.
"""

from __future__ import annotations

import pytest

from connectors.kafka.broker import Cluster
from pipelines.soak_kafka import KAFKA_FAULTS
from tests.support.kafka_broker import own_broker, three_brokers
from tests.support.kafka_faults import decisions, faults, line
from tests.support.kafka_faults.trials import decide_killed, one_after_the_other, zombie

PAUSE_S = 8.0
"""Beyond the session of six seconds, which is what matters of a pause."""
TOGETHER = tuple(faults.FAULTS)
KILLED_AT = ("after robot.execute(set_grip_force", 1)
"""It has acted, and nobody was told."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Cluster:
    """One that may be killed."""
    with own_broker(tmp_path_factory.mktemp("kafka-faults")) as cluster:
        yield cluster


@pytest.mark.timeout(600)
def test_after_all_faults_the_log_has_what_a_run_without_any_would_have(broker, tmp_path):
    assert one_after_the_other(tmp_path, broker, TOGETHER, seed=1, pause_s=PAUSE_S).wrong == []


@pytest.mark.timeout(300)
def test_one_of_three_brokers_dies_and_nothing_is_lost(tmp_path):
    with three_brokers(tmp_path / "kafka") as cluster:
        assert one_after_the_other(tmp_path, cluster, ("one-of-three-killed",), seed=1, pause_s=0.0).wrong == []


@pytest.mark.timeout(300)
def test_a_decision_service_that_is_killed_when_it_has_acted_asks_and_does_not_repeat(broker, tmp_path):
    number = decisions.POINTS.index(KILLED_AT)
    assert decide_killed(tmp_path / "story", broker, number, seed=1).wrong == []


@pytest.mark.timeout(300)
def test_a_zombie_with_an_intent_in_hand_does_nothing_at_the_plc_and_is_fenced_by_the_store(
    broker, postgres_server, tmp_path
):
    trial = zombie(tmp_path / "story", broker, postgres_server, seed=1, pause_s=PAUSE_S)
    assert (trial.wrong, trial.figures["refused_by_the_plc"] + trial.figures["told_by_the_plc"]) == ([], 1.0)


def test_every_fault_of_the_soak_is_tried_here():
    assert {*KAFKA_FAULTS} - {*faults.ON_THREE} <= {*TOGETHER}
    assert len(set(decisions.POINTS)) == len(decisions.POINTS) >= 20
    assert line.CELLS_N > 1
