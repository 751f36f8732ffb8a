"""Mode observe: no code that can write is reachable, and a running agent sees and advises without ever acting.

That the server refuses the collector's user any write and call is proven in `test_plant_server` and `test_opcua_plant`.
"""

from __future__ import annotations

import ast
import asyncio
import json
import sqlite3
from functools import cache
from pathlib import Path

import pytest
from asyncua import ua

from connectors.opcua.session import open_session
from pipelines.observe import observe_parts
from tests.support.bench import Bench, Process

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "agent", "connectors", "pipelines")
WRITERS = frozenset({
    "write_value", "write_values", "write_attribute", "write_attributes", "write_attribute_value", "set_value",
    "set_values", "set_attribute", "set_writable", "write_params", "call_method", "set_modelling_rule", "delete_nodes",
    "add_nodes", "history_update", "call",
})  # fmt: skip
"""Methods of asyncua and of the older opcua by which a client changes a server."""
ACTING = ("connectors.opcua.actuate", "connectors.robots", "pipelines.executor", "pipelines.act")


def path_of(module: str) -> Path | None:
    """The file of one of our modules."""
    base = ROOT.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def imported(module: str, *, also_in_functions: bool = False) -> frozenset[str]:
    """Our modules that importing this one imports: its own, its packages, and not what only type checkers read."""
    path = path_of(module)
    assert path is not None, module
    found: set[str] = set()
    for node in _statements(ast.parse(path.read_text()), also_in_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = {name for name in found if name.split(".")[0] in PACKAGES and path_of(name)}
    parents = {".".join(name.split(".")[:n]) for name in ours for n in range(1, name.count(".") + 1)}
    return frozenset(ours | {name for name in parents if path_of(name)})


def _statements(tree: ast.AST, also_in_functions: bool):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not also_in_functions:
            continue
        yield node
        yield from _statements(node, also_in_functions)


def reachable(*roots: str, also_in_functions: bool = False) -> set[str]:
    """All of our modules that these roots import, directly or not."""
    seen, waiting = set(), list(roots)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imported(module, also_in_functions=also_in_functions)
    return seen


def writes(source: str) -> list[str]:
    """Calls in this source that could change an OPC UA server."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [func.attr for func in calls if isinstance(func, ast.Attribute) and func.attr in WRITERS]


def observing() -> set[str]:
    """What an observing agent loads: the command line imports mode act inside a function, for act alone."""
    return reachable("pipelines.cli", "pipelines.observe", "pipelines.runner", "pipelines.commands.run")


def test_nothing_that_an_observing_agent_imports_is_made_for_acting():
    assert [m for m in observing() if m.startswith(ACTING)] == []


def collecting() -> set[str]:
    """What a collector process loads: all that its wiring could import, and what the command line does at its start."""
    deep = reachable("pipelines.collect", also_in_functions=True)
    return deep | reachable("pipelines.cli", "pipelines.commands.streams")


def test_nothing_that_a_collector_process_imports_acts_or_calls_what_changes_a_server():
    assert {"connectors.opcua.subscribe", "connectors.kafka.forward", "connectors.kafka.plant_topics"} <= collecting()
    assert [m for m in collecting() if m.startswith(ACTING)] == []
    found = {m: writes(path_of(m).read_text()) for m in collecting()}
    assert {m: calls for m, calls in found.items() if calls} == {}


def test_even_imports_inside_functions_of_the_observing_wiring_lead_to_nothing_that_acts():
    deep = reachable("pipelines.observe", "pipelines.runner", also_in_functions=True)
    assert [m for m in deep if m.startswith(ACTING)] == []


def test_no_module_that_an_observing_agent_imports_calls_what_changes_a_server():
    found = {m: writes(path_of(m).read_text()) for m in observing()}
    assert {m: calls for m, calls in found.items() if calls} == {}


def test_the_same_search_finds_what_acts():
    acting = reachable("pipelines.act", also_in_functions=True)
    assert {"connectors.opcua.actuate", "connectors.robots", "pipelines.executor"} <= acting
    assert writes(path_of("connectors.opcua.actuate").read_text())
    assert writes("async def f(node):\n    await node.write_value(1)") == ["write_value"]
    assert {"pipelines.observe", "connectors.opcua.subscribe", "connectors.opcua.session"} <= observing()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.edit("jidoka.toml", 'mode = "act"', 'mode = "observe"')
    yield made
    made.close()


def test_observing_agent_reports_and_advises_and_never_acts(bench):
    assert observe_parts(bench.load()).companions == []
    bench.agent = Process("tests.support.observing", bench.config)
    assert bench.agent.first_line().startswith("running ")
    bench.warm()
    after = bench.last
    bench.inject("oil_on_pads")
    incident = bench.until("incident.opened", after=after)
    proposed = bench.until("plan.proposed", lambda f: f.commands, after=after)
    assert proposed.incident_id == incident.incident_id
    judged = bench.until("guard.judged", after=after)
    assert judged.decision == "refused"
    assert "mode" in [v.rule for v in judged.verdicts if v.result == "refused"]
    dropped = bench.until("plan.dropped", after=after)
    assert "observe" in dropped.reason
    refused = bench.call("request", "set_grip_force", "grip_force_n=20")
    assert (refused.status, "observe" in refused.out) == (1, True), refused
    held = bench.call("hold")
    assert held.status == 1, held
    assert bench.call("rebaseline", "lift_current_a", "--reason", "new pads").status == 0
    # Was: written down and never told to the detectors, which is no writing to a plant.
    assert bench.until("tags.rebaselined", after=after).tags == ("lift_current_a",)
    ended = bench.stop()
    assert ended.status == 0, ended
    modules = json.loads(ended.out.splitlines()[-1])
    assert [m for m in modules if m.startswith(ACTING)] == []
    assert "pipelines.observe" in modules
    types = {record.type for record in bench.records()}
    assert not types & {"command.intended/1", "snapshot.taken/1", "command.answered/1", "readback.taken/1"}
    assert asyncio.run(_heard_of_us(bench)) == (15.0, 100.0, 0)
    ledger = sqlite3.connect(f"file:{bench.folder / 'plant' / 'plc.sqlite'}?mode=ro", uri=True)
    assert ledger.execute("SELECT count(*) FROM ledger").fetchone() == (0,)
    ledger.close()


async def _heard_of_us(bench):
    """What the plant knows of us: its set-points, and the agent's heartbeat."""
    settings = bench.load().settings.opcua
    async with open_session(settings, settings.collector) as link:
        index = await link.client.get_namespace_index("urn:jidoka:plant")

        async def value(name):
            return await link.client.get_node(ua.NodeId(name, index)).read_value()

        names = ("Cell1.Gripper.GripForceSetpoint", "Cell1.Gripper.MotionSpeedSetpoint", "Cell1.AgentHeartbeat")
        return tuple([await value(name) for name in names])
