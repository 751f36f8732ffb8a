"""Dashboard, alerts and runbooks name only metrics that some process tells, and files that are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipelines.up import children_of

ROOT = Path(__file__).parents[2]
OPERATION = ROOT / "pipelines/operation"
GRAFANA = ROOT / "deploy/grafana"
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
"""Of prometheus_client itself."""


def told() -> set[str]:
    """Every metric name that stands in the code; a histogram has three of them, an info one."""
    found = set()
    for path in OPERATION.glob("*.py"):
        for kind, name in re.findall(r'(\w+)\(\s*"(jidoka_\w+)"', path.read_text()):
            match kind:
                case "HistogramMetricFamily":
                    found |= {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"}
                case "InfoMetricFamily":
                    found.add(f"{name}_info")
                case _:
                    found.add(name)
    return found | PROCESS


def named(text: str) -> set[str]:
    return set(re.findall(r"\b(?:jidoka|process)_[a-z_]+\b", text)) - {"jidoka_writer", "jidoka_reader"}


def expressions() -> list[tuple[str, str]]:
    dashboard = json.loads((GRAFANA / "jidoka.json").read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_code_tells_a_good_number_of_metrics_by_the_fields_names():
    names = told() - PROCESS
    assert len(names) > 40
    odd = [n for n in names if re.search(r"_(ms|us|minutes|kb|mb)(_|$)", n)]
    assert odd == []


@pytest.mark.parametrize(("title", "expression"), expressions(), ids=lambda each: each[:40])
def test_each_metric_of_the_dashboard_is_told_by_a_process(title, expression):
    metrics = named(expression) - {"process"}
    assert metrics, title
    assert metrics - told() == set()
    assert expression.count("(") == expression.count(")")


def test_panels_lie_beside_and_not_over_each_other_and_have_ids_of_their_own():
    panels = json.loads((GRAFANA / "jidoka.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(places)


def test_a_counter_of_the_dashboard_is_shown_as_a_rate():
    bare = [e for _, e in expressions() for name in named(e) if name.endswith("_total") and f"rate({name}" not in e]
    assert bare == []


def test_alerts_name_metrics_that_are_told_and_pages_that_are_there():
    text = (GRAFANA / "jidoka-alerts.yaml").read_text()
    expressions = re.findall(r"expr: (.+)", text)
    assert len(expressions) == text.count("- alert:") == text.count("runbook: ") > 6
    assert set().union(*map(named, expressions)) - told() == set()
    assert [page for page in re.findall(r"runbook: ([\w./-]+)", text) if not (ROOT / page).is_file()] == []


PAGES = ["docs/kafka-runtime.md", *(
    f"deploy/runbooks/{name}.md" for name in ("broker-down", "worker-stuck", "poison-message", "rebuild-state")
)]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_a_metric_that_a_page_names_is_told(page):
    assert named((ROOT / page).read_text()) - told() == set()


def test_each_process_has_a_unit_with_a_port_that_prometheus_asks():
    asked = set(re.findall(r"127\.0\.0\.1:(\d+)", (GRAFANA / "prometheus.yaml").read_text()))
    ports = set()
    for child in children_of(Path(), "", workers=1, http=9470):
        name = child.name.partition("-")[0]
        unit = (ROOT / f"deploy/systemd/jidoka-{name}@.service").read_text()
        (port,) = re.findall(rf"ExecStart=\S+/jidoka {name} --config /etc/jidoka/%i --http (\d+) --log json\n", unit)
        assert int(port) == child.port, "as `jidoka up --http 9470` deals them"
        ports.add(port)
    assert ports == asked
