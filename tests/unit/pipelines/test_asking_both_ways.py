"""A sentence over the operator socket and over the topic: the same facts, a person's approval, equal on replay."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from connectors.clock import VirtualClock
from pipelines.cli import app
from pipelines.derive import Derivation
from pipelines.hosting import Folders
from pipelines.operator_socket import OperatorSocket, call
from pipelines.recover import Lookahead
from pipelines.replay import replay
from pipelines.screen import asked_text
from pipelines.simulation import START_US, Simulation
from pipelines.stages.deciding import Decider
from schemas import facts
from schemas.facts import DERIVED_NAMES, OperatorRequested, encode
from schemas.topics import partition_of
from tests.support.quick_plant import QUICK, edited, quick_plant

CONFIGURATION = edited(QUICK)
SENTENCE = "slow the conveyor to 60 % and juggle"


def simulated() -> Simulation:
    return Simulation(CONFIGURATION, seed=0, plant=quick_plant(CONFIGURATION, VirtualClock(START_US)))


async def by_socket(simulation: Simulation, *requests: dict[str, object]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        services = {simulation.service.cell: simulation.service}
        path = Path(folder) / "s"
        operators = OperatorSocket(path, services, simulation.clock, off_file=Path(folder) / "OFF")
        await operators.start()
        try:
            return [await asyncio.to_thread(call, path, request) for request in requests]
        finally:
            await operators.close()


async def by_command(simulation: Simulation, *arguments: str) -> Any:
    """Run `jidoka ask` beside the cell, in a thread."""
    with tempfile.TemporaryDirectory() as folder:
        services = {simulation.service.cell: simulation.service}
        path = Folders(Path(folder)).socket
        operators = OperatorSocket(path, services, simulation.clock, off_file=Path(folder) / "OFF")
        await operators.start()
        try:
            return await asyncio.to_thread(CliRunner().invoke, app, ["ask", "--data", folder, *arguments])
        finally:
            await operators.close()


async def by_topic(simulation: Simulation, text: str) -> None:
    """Hand a message of `operator-requests.v1` to the decision service, and wait for what follows."""
    cell, partitions = simulation.service.cell, 3
    made = object.__new__(Decider)
    made.settings = SimpleNamespace(partitions=partitions)
    made.services, made._paths, made._unknown = {cell: simulation.service}, frozenset({cell}), set()
    request = OperatorRequested(
        at=simulation.clock.now_us(), request_id="from-the-topic", who="ben", kind="ask", reason=text
    )
    record = SimpleNamespace(
        topic="operator-requests.v1", partition=partition_of(cell, partitions), offset=1, key=cell.encode(),
        value=encode(request), headers=[],
    )  # fmt: skip
    assert await made.requested([record]) == 2
    await simulation.service.settle()


def played(*steps: Any) -> tuple[Simulation, list[Any]]:
    """Let the cell run for some seconds, then do each of these with it."""
    simulation, results = simulated(), list[Any]()

    async def go() -> None:
        async with simulation.running():
            await simulation.run_for(3.0)
            for step in steps:
                results.append(await step(simulation))
            await simulation.run_for(3.0)

    asyncio.run(go())
    return simulation, results


def of(simulation: Simulation, kind: type) -> list[Any]:
    return [fact for fact in simulation.facts if isinstance(fact, kind)]


def test_over_the_socket_the_answer_shows_the_steps_their_ranges_and_what_was_not_understood():
    simulation, (answers,) = played(lambda s: by_socket(s, {"kind": "ask", "reason": SENTENCE, "target": "en"}))
    (answer,) = answers
    (step,) = answer["steps"]
    assert (answer["ok"], answer["did"], answer["reader"]) == (True, "needs_approval", "phrasebook")
    assert (step["change"], step["allowed"]) == ("conveyor_speed_pct 100 -> 60 %", "20..100 %")
    assert step["sha256"] == of(simulation, facts.ApprovalRequested)[0].command_sha256
    assert answer["not_understood"] == [{"words": "juggle", "reason": "'juggle' means nothing here", "candidates": []}]
    text = asked_text(answer)
    assert "1. conveyor_speed_pct 100 -> 60 % on drive (set_conveyor_speed, " in text
    assert "\"juggle\": 'juggle' means nothing here" in text
    assert f"jidoka approve {step['command_id'][:8]}" in text
    assert of(simulation, facts.CommandIntended) == []


def test_over_the_topic_the_same_plan_waits_for_the_same_approval():
    over_socket, _ = played(lambda s: by_socket(s, {"kind": "ask", "reason": SENTENCE}))
    over_topic, _ = played(lambda s: by_topic(s, SENTENCE))
    plans = [of(s, facts.PlanProposed)[0] for s in (over_socket, over_topic)]
    assert plans[0].findings == plans[1].findings
    assert [[(c.action, c.args, c.origin) for c in plan.commands] for plan in plans] == [
        [("set_conveyor_speed", {"conveyor_speed_pct": 60.0}, "sentence")]
    ] * 2
    assert plans[1].who == "ben"
    assert [f.decision for f in of(over_topic, facts.GuardJudged)] == ["needs_approval"]
    assert of(over_topic, facts.CommandIntended) == []


async def approve(simulation: Simulation) -> dict[str, Any]:
    waiting = of(simulation, facts.ApprovalRequested)[-1].command_id
    (answer,) = await by_socket(simulation, {"kind": "approve", "target": waiting})
    return answer


def test_approved_it_is_sent_once_and_every_derived_fact_is_the_same_on_replay():
    simulation, (_, answer) = played(lambda s: by_topic(s, SENTENCE), approve)
    assert answer["ok"], answer
    (intended,) = of(simulation, facts.CommandIntended)
    assert intended.command.args == {"conveyor_speed_pct": 60.0}
    assert of(simulation, facts.CommandCompleted)

    async def records():
        return [record async for record in simulation.store.read_all()]

    said = asyncio.run(records())
    again = replay(said, Lookahead(simulation.keeper.read(after=0)), derivation=Derivation(simulation.rules))
    assert again.divergence is None
    assert again.facts_compared == sum(record.type in DERIVED_NAMES for record in said)
    assert {"reasoner.asked/1", "plan.proposed/1"} <= {record.type for record in said}


@pytest.mark.parametrize(("text", "rule"), [
    ("", "sentence.empty"),
    ("x" * 501, "sentence.length"),
    ("clean the pads " * 5_000, "sentence.length"),  # would be more than a line of the socket
    ("\U0001f527" * 5_000, "sentence.length"),  # twelve bytes each, as the line is written
    ("clean the pads \u202e", "sentence.characters"),
], ids=["empty", "one too long", "75 kB", "astral", "bidi"])  # fmt: skip
def test_what_the_command_asks_is_refused_by_the_service_on_record_and_in_json(text, rule):
    """Was: refused before it was sent, in plain text, and in no log."""
    simulation, (said,) = played(lambda s: by_command(s, "--json", text))
    assert (said.exit_code, json.loads(said.stdout)["ok"]) == (1, False)
    assert json.loads(said.stdout)["error"].startswith(f"{rule}: ")
    (asked,), (refused,) = of(simulation, OperatorRequested), of(simulation, facts.RequestRefused)
    assert (text.startswith(asked.reason), refused.request_id, refused.rule) == (True, asked.request_id, rule)


def test_bytes_that_are_no_text_are_refused_in_json_too():
    simulation, (said,) = played(lambda s: by_command(s, "--json", "clean the pads \udcff"))
    assert json.loads(said.stdout)["error"].startswith("sentence.characters: ")
    assert of(simulation, OperatorRequested) == []


@pytest.mark.parametrize(("text", "said"), [
    ("set the grip force to 400 N", ["allowed 10..50 N", "refused: range: grip_force_n 400 is outside 10..50"]),
    ("don't clean the pads", ["not understood:", "denies", "refused: sentence.not_understood"]),
    ("slow the conveyor \u202e06", ["refused: sentence.characters", "U+202E"]),
    ("x" * 501, ["refused: sentence.length: 501 characters, allowed are 500"]),
])  # fmt: skip
def test_a_refusal_is_said_with_its_rule_and_with_the_range_where_there_is_one(text, said):
    simulation, (answers,) = played(lambda s: by_socket(s, {"kind": "ask", "reason": text}))
    assert not answers[0]["ok"]
    shown = asked_text(answers[0])
    assert [part for part in said if part not in shown] == []
    assert of(simulation, facts.ApprovalRequested) == []


def test_ten_megabytes_over_the_socket_are_hung_up_on_and_the_next_is_answered():
    def go(simulation):
        async def both():
            with pytest.raises(Exception, match=r"hung up|no agent answers"):
                await by_socket(simulation, {"kind": "ask", "reason": "slow " * 2_000_000})
            return await by_socket(simulation, {"kind": "ask", "reason": "clean the pads"})

        return both()

    simulation, (answers,) = played(go)
    assert answers[0]["did"] == "needs_approval"
    assert len(of(simulation, facts.OperatorRequested)) == 1
