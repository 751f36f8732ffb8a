"""One recording through both runtimes: the same derived facts, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from connectors.clock import VirtualClock
from connectors.kafka.admin import apply_topics
from connectors.kafka.codec import decode_message
from connectors.kafka.connection import client_arguments
from connectors.kafka.reading import read_range
from connectors.plant.direct import DirectPlant
from connectors.reasoners.playbook import PlaybookReasoner
from connectors.reasoners.recorded import RecordedReasoner
from pipelines.config import Configuration, load
from pipelines.simulation import START_US
from schemas.facts import IncidentOpened, PlanProposed
from schemas.samples import LineEvent, SampleBatch
from tests.support.both_runtimes import decided, derived, detected, embedded, recording
from tests.support.demo import CONFIG
from tests.support.kafka_broker import emptied, settings_of

STORY = (("", 300.0), ("oil_on_pads", 200.0), ("drive_drag", 300.0))
SETTINGS = """
data = "data"

[opcua]
url = "opc.tcp://127.0.0.1:1"

[kafka]
bootstrap = ["{bootstrap}"]
partitions = 3
session_s = 6.0
snapshot_s = 60.0
"""


@pytest.fixture(scope="module")
def inputs():
    configuration = load(CONFIG)
    return recording(DirectPlant(configuration.plant.cells[0], 7, VirtualClock(START_US)), STORY)


def configured(folder: Path, bootstrap: str) -> Configuration:
    for name in ("plant.toml", "catalogue.toml", "policy.toml", "playbook.toml"):
        (folder / name).write_bytes((CONFIG / name).read_bytes())
    (folder / "jidoka.toml").write_text(SETTINGS.format(bootstrap=bootstrap))
    return load(folder)


def test_both_runtimes_come_to_the_same_facts(inputs, kafka_broker, tmp_path):
    cluster = emptied(kafka_broker)
    configuration = configured(tmp_path, cluster.bootstrap[0])
    settings = settings_of(cluster)
    apply_topics(settings)
    rules = configuration.rules_for(configuration.plant.cells[0])

    playbook = PlaybookReasoner(configuration.playbook, configuration.sha256("playbook.toml"))
    first = embedded(rules, inputs, playbook)
    assert {IncidentOpened, PlanProposed} <= {type(record.fact) for record in first}, "nothing happened"
    again = embedded(rules, inputs, RecordedReasoner(first))
    assert derived(again) == derived(first)

    delivered = detected(configuration, settings, inputs)
    over_kafka = decided(rules, delivered, RecordedReasoner(first))
    assert derived(over_kafka) == derived(first)
    copied = [
        decode_message(record.key, record.value, record.headers).input
        for number in range(settings.partitions)
        for record in read_range(client_arguments(settings), "line-events.v1", number, 0)
    ]
    assert copied == [item for item in inputs if isinstance(item, LineEvent)] != []


def test_other_samples_make_another_record(inputs):
    """The comparison can fail."""
    configuration = load(CONFIG)
    rules = configuration.rules_for(configuration.plant.cells[0])
    playbook = PlaybookReasoner(configuration.playbook, configuration.sha256("playbook.toml"))
    other = [replace(item, value=item.value * 1.0001) if isinstance(item, SampleBatch) else item for item in inputs]
    assert derived(embedded(rules, other, playbook)) != derived(embedded(rules, inputs, playbook))
