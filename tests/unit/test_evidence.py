"""Evidence: all tags of the demo cell fit, and of a wide cell the worst and the one in question."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipelines.detectors.suite import Suite
from schemas.facts import AnomalyDetected
from schemas.plant import Asset, Cell, Group, Limits, Plant, Range, Tag
from schemas.samples import Kept, LineEvent, SampleBatch, Tick

S = 1_000_000
T0 = 1_790_000_000_000_000
PLANT = Path(__file__).parents[2] / "connectors/plant/config/plant.toml"
BYTES_MAX = 1500


def feed(suite: Suite, values: dict[int, float], at: int) -> list[AnomalyDetected]:
    n, tags = len(values), np.array(list(values), dtype=np.uint32)
    times, numbers = np.full(n, at), np.array(list(values.values()), dtype=np.float64)
    facts = suite.feed(Kept(1, at, SampleBatch("s", 1, 0, tags, times, times, numbers, np.zeros(n, np.uint32)))).facts
    facts += suite.feed(Kept(2, at, Tick("s", 1, 0, at, True))).facts
    return [fact for fact in facts if isinstance(fact, AnomalyDetected)]


def test_evidence_of_the_demo_cell_holds_all_its_process_tags_and_setpoints():
    cell = Plant.model_validate(tomllib.loads(PLANT.read_text())).cells[0]
    suite, random = Suite(cell), np.random.default_rng(0)
    suite.feed(Kept(1, T0, LineEvent("s", 1, 0, "packml.state", T0 - 1, 6)))
    suite.feed(Kept(2, T0, Tick("s", 1, 0, T0, True)))
    process = {tag.name for tag in cell.tags if tag.role == "process"}
    found = []
    for k in range(1, 75):
        faulty = k > 65
        values = {
            tag.id: {"counter": float(k), "heartbeat": float(k), "setpoint": 14.1421356, "permissive": 1.0}.get(
                tag.role,
                6.0 if tag.role == "state" else (3.12345678 - faulty * 2.98765432) * random.uniform(0.99, 1.01),
            )
            for tag in cell.tags
            if tag.minus is None
        }
        found += feed(suite, values, T0 + 3 * k * S)
    assert found
    for fact in found:
        assert {t.tag for t in fact.evidence.tags} == process
        # Was: rounded to 14.1421, so that `From` of a proposal was never the set-point that the PLC had.
        assert set(fact.evidence.setpoints.values()) == {14.1421356}
        assert len(fact.evidence.setpoints) == 4
        assert fact.evidence.state == "EXECUTE"
        assert len(msgspec.json.encode(fact.evidence)) <= BYTES_MAX


@pytest.mark.parametrize("tags", [1, 15, 16, 17, 400])
def test_evidence_of_a_wide_cell_stays_small_and_names_the_tag_in_question(tags):
    wide = Range(low=-1e9, high=1e9)
    cell = Cell(
        id="w", path="a/b/c/d/w", namespace="urn:test", lateness_s=0.0, assets=(Asset(id="a" * 20, title="A"),),
        groups=(Group(id="g", period_s=1.0, warm_up_rows=10),),
        tags=tuple(
            Tag(id=k, name=f"pressure_of_the_pump_number_{k}_bar", asset="a" * 20, node=f"/{k}", unit="bar", range=wide,
                group="g", limits=Limits(high=10.5, rows=1) if k == tags - 1 else None)
            for k in range(tags)
        ),
    )  # fmt: skip
    suite, random = Suite(cell), np.random.default_rng(0)
    suite.feed(Kept(1, T0, Tick("s", 1, 0, T0, True)))
    found = []
    for k in range(1, 30):
        values = {tag: 10.0 + 0.1 * float(random.uniform(-1, 1)) for tag in range(tags)}
        if k == 29:
            values = {tag: value + (1e6 if tag < tags - 1 else 0.7) for tag, value in values.items()}
        found += feed(suite, values, T0 + k * S)
    (fact,) = found
    assert fact.detector == "limit"
    assert fact.tag in {t.tag for t in fact.evidence.tags}
    assert len(msgspec.json.encode(fact.evidence)) <= BYTES_MAX
    deviations = [abs(t.z) for t in fact.evidence.tags if t.tag != fact.tag]
    assert deviations == sorted(deviations, reverse=True)
