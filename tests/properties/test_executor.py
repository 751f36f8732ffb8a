"""The executor between a service and a robot that answers anything: what may be sent, when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cell import CellState
from agent.effects import AskReasoner, Dispatch, QueryCommand, ReadBack, ReadSetpoints, TakeSnapshot
from connectors.clock import VirtualClock
from pipelines.executor import Executor, Machines
from schemas.commands import Command, Reading
from schemas.errors import ConnectionFault
from schemas.facts import AnyFact, CommandAnswered, ReadbackTaken, SnapshotTaken
from schemas.outcomes import Answered, NotSent, Outcome, Unknown
from schemas.samples import Input
from schemas.sentences import Sentence
from tests.support.builders import question
from tests.support.demo import demo_rules

COMMAND = Command("c1", "p1", "i1", "gripper", "set_grip_force", "SetGripForce", {"grip_force_n": 40.0},
                  {"grip_force_n": 15.0}, "plan")  # fmt: skip
OUTCOMES: list[Outcome] = [
    Answered("done", 0, ""),
    Answered("rejected", 7, "no"),
    Answered("running", 0, ""),
    Answered("never_seen", 0, ""),
    Unknown(5.0, "no answer"),
    NotSent("not connected"),
]


@dataclass
class Partner:
    """The service and the robot, and everything that they were told, in order."""

    outcome: Outcome = OUTCOMES[0]
    values: Mapping[str, float] = field(default_factory=lambda: {"grip_force_sp_n": 40.0})
    on: bool = True
    epoch: int = 1
    did: list[tuple[str, int]] = field(default_factory=list)
    facts: list[AnyFact] = field(default_factory=list)

    @property
    def state(self) -> CellState:
        return CellState("c", mode="act", automation_on=self.on)

    async def put(self, message: Input | AnyFact) -> None:
        self.facts.append(message)

    async def raise_epoch(self, reason: str) -> int:
        self.epoch += 1
        self.did.append(("raise", self.epoch))
        return self.epoch

    async def snapshot(self, tags: Sequence[str]) -> Mapping[str, Reading]:
        missing = [tag for tag in tags if tag not in self.values]
        if missing:
            raise ConnectionFault(f"cannot read {missing}")
        return {tag: Reading(self.values[tag], 0, 0, 0) for tag in tags}

    async def execute(
        self, command: Command, *, command_sha256: str, epoch: int, ttl_s: float, timeout_s: float
    ) -> Outcome:
        self.did.append(("execute", epoch))
        return self.outcome

    async def query(self, command_id: str, *, epoch: int, timeout_s: float) -> Outcome:
        self.did.append(("query", epoch))
        return self.outcome


def executor(partner: Partner, off_file: Path = Path("/nonexistent/OFF")) -> Executor:
    machines = Machines({"gripper": partner}, off_file, readback_s=0.02)
    return Executor(partner, demo_rules(), VirtualClock(), machines, {}, [])


def fulfil(partner: Partner, *effects: object, off_file: Path = Path("/nonexistent/OFF")) -> list[AnyFact]:
    async def go() -> None:
        done = executor(partner, off_file)
        for effect in effects:
            done.fulfil([effect])
            while done.busy:
                await asyncio.sleep(0)
        await done.close()

    asyncio.run(go())
    return partner.facts


DISPATCH, QUERY = Dispatch(COMMAND, COMMAND.sha256(), 1), QueryCommand(COMMAND, 1)


@given(st.lists(st.tuples(st.sampled_from(["send", "query"]), st.sampled_from(OUTCOMES)), max_size=8))
@settings(max_examples=200, deadline=None)
def test_each_wish_reaches_the_robot_once_and_a_query_is_behind_the_fence_of_whatever_may_be_on_its_way(story):
    partner, uncertain_at = Partner(), 0

    async def go() -> None:
        nonlocal uncertain_at
        done = executor(partner)
        for kind, outcome in story:
            partner.outcome = outcome
            before = len(partner.did)
            done.fulfil([DISPATCH if kind == "send" else QUERY])
            while done.busy:
                await asyncio.sleep(0)
            calls = partner.did[before:]
            if kind == "send":
                assert [name for name, _ in calls] == ["execute"]
                uncertain_at = calls[0][1] if isinstance(outcome, Unknown) else uncertain_at
            else:
                assert [name for name, _ in calls if name != "raise"] == ["query"]
                assert calls[-1][1] > uncertain_at
        await done.close()

    asyncio.run(go())
    assert len([f for f in partner.facts if isinstance(f, CommandAnswered)]) == len(story)
    assert [f.outcome for f in partner.facts] == [outcome for _, outcome in story]


def test_nothing_leaves_while_automation_is_off():
    partner = Partner(on=False)
    (answered,) = fulfil(partner, DISPATCH)
    assert (partner.did, answered.outcome) == ([], NotSent("automation is switched off"))


def test_nothing_leaves_while_the_off_file_is_there(tmp_path):
    (tmp_path / "OFF").touch()
    partner = Partner()
    (answered,) = fulfil(partner, DISPATCH, off_file=tmp_path / "OFF")
    assert (partner.did, answered.outcome) == ([], NotSent("the off-switch file is there"))


def test_a_query_after_a_known_answer_raises_no_fence():
    partner = Partner(outcome=Answered("running", 0, ""))
    fulfil(partner, DISPATCH, QUERY)
    assert partner.did == [("execute", 1), ("query", 1)]


def test_a_query_after_no_answer_raises_the_fence_first_and_once():
    partner = Partner(outcome=Unknown(5.0, "no answer"))
    fulfil(partner, DISPATCH, QUERY, QUERY)
    assert partner.did == [("execute", 1), ("raise", 2), ("query", 2), ("query", 2)]


def test_a_snapshot_that_cannot_be_read_says_so_and_holds_no_reading():
    (taken,) = fulfil(Partner(), TakeSnapshot("c1", "set_grip_force", 1))
    assert isinstance(taken, SnapshotTaken)
    assert taken.readings == {}
    assert "cannot read" in taken.failure


def test_the_set_points_of_a_sentence_are_read_at_every_robot_or_not_at_all():
    values = {"motion_speed_sp_pct": 100.0, "grip_force_sp_n": 25.0, "conveyor_speed_sp_pct": 60.0}
    robots = {"gripper": Partner(values=values), "drive": Partner(values=values)}

    def read() -> SnapshotTaken:
        service = Partner()

        async def go() -> None:
            machines = Machines(robots, Path("/nonexistent/OFF"), readback_s=0.02)
            done = Executor(service, demo_rules(), VirtualClock(), machines, {}, [])
            done.fulfil([ReadSetpoints("ask1")])
            while done.busy:
                await asyncio.sleep(0)
            await done.close()

        asyncio.run(go())
        (taken,) = service.facts
        return taken

    assert {tag: reading.value for tag, reading in read().readings.items()} == values
    robots["drive"].values = {}
    taken = read()
    assert (taken.readings, "cannot read" in taken.failure) == ({}, True)
    del robots["drive"]
    assert "no robot" in read().failure


def test_a_sentence_that_nobody_is_there_to_read_is_a_failure_and_not_a_crash():
    request = question()
    (failed,) = fulfil(Partner(), AskReasoner(msgspec.structs.replace(request, sentence=Sentence("r", "w", "en", "x"))))
    assert (failed.request_id, failed.reasoner) == (request.request_id, "sentence")


def test_a_snapshot_tells_of_the_off_file(tmp_path):
    (tmp_path / "OFF").touch()
    (taken,) = fulfil(Partner(), TakeSnapshot("c1", "set_grip_force", 1), off_file=tmp_path / "OFF")
    assert taken.off_file


def test_a_set_point_that_never_reads_as_asked_is_reported_as_it_reads():
    (read,) = fulfil(Partner(values={"grip_force_sp_n": 15.0}), ReadBack(COMMAND))
    assert isinstance(read, ReadbackTaken)
    assert (read.readings["grip_force_sp_n"].value, read.failure) == (15.0, "")
