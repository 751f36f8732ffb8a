"""The process log as JSON: one object a line, with the ids of what a line is about, whoever logs it."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from pipelines.log_lines import CHATTY, JsonLines, Seldom, about
from pipelines.simulation import Simulation
from schemas.facts import ApprovalRequested, GuardJudged, IncidentOpened
from tests.support.demo import CELL
from tests.support.quick_plant import SEED, quick_configuration, quick_plant


@pytest.fixture
def lines():
    """What is logged below `jidoka` while the test runs, parsed."""
    said: list[dict[str, object]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(json.loads(self.format(record)))

    handler = Keep()
    handler.setFormatter(JsonLines("decide"))
    log = logging.getLogger("jidoka")
    log.addHandler(handler)
    yield said
    log.removeHandler(handler)


def test_a_line_has_time_level_logger_message_and_process(lines):
    logging.getLogger("jidoka.x").warning("it is %s", 'a "thing"\nof two lines')
    (line,) = lines
    assert line["time"].endswith("Z")
    del line["time"], line["pid"]
    assert line == {
        "level": "warning", "logger": "jidoka.x", "message": 'it is a "thing"\nof two lines', "process": "decide",
    }  # fmt: skip


def test_what_is_logged_within_says_what_it_is_about_also_in_tasks(lines):
    async def deep() -> None:
        await asyncio.sleep(0)
        logging.getLogger("jidoka.deep").error("no answer")

    async def go() -> None:
        with about(cell="c", incident_id="i"):
            task = asyncio.create_task(deep())
            with about(command_id="k"):
                logging.getLogger("jidoka.x").error("inner")
        await task
        logging.getLogger("jidoka.x").error("outside")

    asyncio.run(go())
    ids = [{name: line.get(name) for name in ("cell", "incident_id", "command_id")} for line in lines]
    assert ids == [
        {"cell": "c", "incident_id": "i", "command_id": "k"},
        {"cell": "c", "incident_id": "i", "command_id": None},
        {"cell": None, "incident_id": None, "command_id": None},
    ]


def test_an_exception_is_one_line(lines):
    try:
        raise ValueError("x\ny")
    except ValueError:
        logging.getLogger("jidoka.x").exception("it failed")
    assert "ValueError" in lines[0]["traceback"]


def test_a_library_that_repeats_itself_is_heard_once_and_ours_always():
    seldom = Seldom(CHATTY)
    record = logging.LogRecord(f"{CHATTY}.conn", logging.ERROR, "", 1, "no node %s", (1,), None)
    assert [seldom.filter(record), seldom.filter(record)] == [True, False]
    record.created += 31
    assert seldom.filter(record)
    ours = logging.LogRecord("jidoka.x", logging.ERROR, "", 1, "no", (), None)
    assert [seldom.filter(ours), seldom.filter(ours)] == [True, True]


def test_a_whole_story_is_logged_with_its_incident_and_its_command(lines):
    logging.getLogger("jidoka").setLevel(logging.INFO)
    simulation = Simulation(quick_configuration(), seed=SEED, plant=quick_plant(quick_configuration()))

    async def go() -> None:
        async with simulation.running():
            await simulation.run_for(60.0)
            simulation.plant.station.inject("oil_on_pads", 1.0)
            await simulation.run_for(20.0)

    try:
        asyncio.run(go())
    finally:
        logging.getLogger("jidoka").setLevel(logging.NOTSET)
    incident = next(fact.incident_id for fact in simulation.facts if isinstance(fact, IncidentOpened))
    asked = next(fact for fact in simulation.facts if isinstance(fact, ApprovalRequested))
    told = [line for line in lines if line["logger"] == "jidoka.notify"]
    assert [line["message"] for line in told if "incident_id" not in line] == []
    assert {line["incident_id"] for line in told} == {incident}
    (waiting,) = [line for line in told if "Your decision is needed" in str(line["message"])]
    assert (waiting["command_id"], waiting["cell"]) == (asked.command_id, CELL)


def test_a_wish_that_fails_is_logged_with_its_command(lines):
    class Broken:
        async def snapshot(self, tags):
            raise RuntimeError("the driver is broken")

    simulation = Simulation(
        quick_configuration(), seed=SEED, plant=quick_plant(quick_configuration()), wrap_robot=lambda robot: Broken()
    )

    async def go() -> None:
        async with simulation.running():
            await simulation.run_for(60.0)
            simulation.plant.station.inject("oil_on_pads", 1.0)
            with pytest.raises(RuntimeError, match="broken"):
                await simulation.run_for(30.0)

    asyncio.run(go())
    (said,) = [line for line in lines if "a wish failed" in str(line["message"])]
    assert said["incident_id"] in {f.incident_id for f in simulation.facts if isinstance(f, IncidentOpened)}
    assert said["command_id"] in {f.command_id for f in simulation.facts if isinstance(f, GuardJudged)}
