"""The closed loop: the same faults for everybody, an oracle that is never worse than nobody, and a run that goes on."""

import asyncio
import json
import threading
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from benchmarks import closed_loop
from benchmarks.loop.faults import SCENARIOS, trouble
from benchmarks.loop.hearing import Asked, Hearing, plans_the_same
from benchmarks.loop.oracle import Twin, _plans
from benchmarks.loop.plot import svg
from benchmarks.loop.running import Lost
from connectors.reasoners.in_thread import OneAtATime
from pipelines.config import load
from schemas.errors import ConnectionFault
from schemas.plans import Completion, ReasonerRequest
from tests.support.demo import CONFIG
from tests.support.incidents import demo_repertoire, oily_pads_and_dragging_drive


def test_a_seed_breaks_the_same_things_for_everybody_and_all_scenarios_come():
    assert [trouble(seed) for seed in range(50)] == [trouble(seed) for seed in range(50)]
    assert {trouble(seed).faults for seed in range(100)} == set(SCENARIOS)


@pytest.mark.parametrize(
    ("faults", "action", "known"),
    [(("drive_drag",), "set_conveyor_speed", 60.0), (("worn_pad",), "change_pads", None)],
)
def test_the_oracle_foresees_no_more_downtime_than_with_a_plan_that_is_known_to_mend(faults, action, known):
    which = next(t for t in map(trouble, range(200)) if t.faults == faults)
    plans, twin = list(_plans(demo_repertoire())), Twin(which, 900.0, 4)

    def downtime_s(plan):
        return twin.foresee(plan).downtime_s

    mends = next(p for p in plans if [(x.action, *x.values) for x in p] == [(action, *([known] if known else []))])
    best = min(map(downtime_s, plans))
    assert best <= downtime_s(mends) < downtime_s(()) - 100


def test_a_plan_of_the_oracle_has_each_action_once_and_holds_nothing():
    for plan in _plans(demo_repertoire()):
        names = [step.action for step in plan]
        assert len(set(names)) == len(names)
        assert "hold_cell" not in names


def line(none: float, agent: float, oracle: float) -> dict[str, object]:
    values = {"none": none, "playbook": agent, "oracle": oracle}
    return {"figures": {f"{who}.{key}": value for who, value in values.items() for key in closed_loop.FIGURES}}


def test_downtime_avoided_weighs_each_run_by_what_there_was_to_avoid():
    done = {"1": line(900.0, 100.0, 0.0), "2": line(100.0, 100.0, 0.0)}
    found = closed_loop.figures(done, [1, 2, 3], ["playbook"])
    assert found["playbook"]["downtime_avoided"]["value"] == 0.8
    assert (found["none"]["downtime_avoided"]["value"], found["oracle"]["downtime_avoided"]["value"]) == (0.0, 1.0)


def test_an_interrupted_run_goes_on_and_says_the_same(tmp_path, monkeypatch, capsys):
    words = ["--seeds", "2", "--horizon", "30", "--out", str(tmp_path)]
    monkeypatch.setattr("benchmarks.loop.faults.ONSET_S_MIN", 20.0)
    monkeypatch.setattr("benchmarks.loop.faults.ONSET_S_MAX", 40.0)
    monkeypatch.setattr("benchmarks.loop.oracle.CYCLES_N", 1)
    monkeypatch.setattr("benchmarks.loop.oracle.LONGER_N", 2)
    really, calls = closed_loop.unit, []

    def unit(configuration, agents, models, seed, horizon_s, runner):
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return really(configuration, agents, models, seed, horizon_s, runner)

    monkeypatch.setattr(closed_loop, "unit", unit)
    assert closed_loop.main(words) == 130
    capsys.readouterr()
    assert closed_loop.main(words) == 0
    told = capsys.readouterr()
    assert calls == [1, 2, 2]
    result = json.loads((tmp_path / "result-1-2.json").read_text())
    assert json.loads(told.out) == result
    assert "seed 2" in told.err
    assert "2/2 units" in told.err
    assert (result["seeds"], result["of"]) == (2, 2)
    assert result["agents"]["oracle"]["downtime_s"] <= result["agents"]["none"]["downtime_s"]
    assert ElementTree.fromstring((tmp_path / "closed-loop-1-2.svg").read_text()).tag.endswith("svg")
    before = (tmp_path / "result-1-2.json").read_bytes()
    assert closed_loop.main(["--seeds", "1", *words[2:]]) == 0
    assert (tmp_path / "result-1-2.json").read_bytes() == before
    assert calls == [1, 2, 2]


def test_results_of_another_experiment_are_not_taken_over():
    configuration = load(CONFIG)
    keys = {
        closed_loop._key(configuration, agents, s, {}) for agents in (("playbook",), ("cascade",)) for s in (30.0, 60.0)
    }
    assert len(keys) == 4


@dataclass
class Weights:
    identity: str


def test_results_of_other_weights_or_of_another_benchmark_are_not_taken_over(tmp_path):
    configuration, own = load(CONFIG), tmp_path / "loop" / "oracle.py"
    own.parent.mkdir()

    def key(code: str, weights: str) -> str:
        own.write_text(code)
        return closed_loop._key(configuration, ("m",), 60.0, {"m": Weights(weights)}, tmp_path)

    assert len({key(code, weights) for code in ("a = 1", "a = 2") for weights in ("1f", "2f")}) == 4
    assert key("a = 1", "1f") == key("a = 1", "1f")


def test_a_question_whose_time_was_up_shuts_nobody_out_of_the_next_seed(monkeypatch):
    """In a loop of its own for each seed the thread ends beside a closed one, and the way in stays shut."""
    way_in, slow, said = OneAtATime("m"), threading.Event(), []
    nothing = Lost(0.0, 0.0, 0.0, 0, 0)

    async def under_agent(configuration, which, horizon_s, reasoners):
        try:
            said.append(await way_in.run(lambda: slow.wait(10.0), timeout_s=0.05 if not said else 10.0))
        except ConnectionFault as error:
            said.append(str(error))
        return nothing

    monkeypatch.setattr(closed_loop, "under_agent", under_agent)
    monkeypatch.setattr(closed_loop, "alone", lambda *_: nothing)
    monkeypatch.setattr(closed_loop, "best", lambda *_: (nothing, ()))
    with asyncio.Runner() as runner:
        closed_loop.unit(load(CONFIG), ("playbook",), {}, 1, 30.0, runner)
        slow.set()
        for thread in threading.enumerate():
            if thread.name == "reasoner-m":
                thread.join(10.0)
        closed_loop.unit(load(CONFIG), ("playbook",), {}, 2, 30.0, runner)
    assert said == ["m gave no answer within 0.05 s", True]


@dataclass
class Planner:
    """Answers by what it is asked."""

    force_n: float
    name: str = "planner"

    async def propose(self, request: ReasonerRequest) -> Completion:
        if self.force_n < 0:
            raise ConnectionFault("nobody there")
        slot = next(slot.name for slot in request.slots if slot.asset == "gripper")
        finding = {"evidence": slot, "asset": "gripper", "diagnosis": f"by {self.name}"}
        finding["actions"] = [{"name": "set_grip_force", "args": {"grip_force_n": self.force_n}}]
        return Completion(raw=json.dumps({"findings": [finding]}), reasoner=self.name)


def test_who_plans_the_same_in_other_words_is_not_run_again_and_who_plans_otherwise_is():
    request, rules = oily_pads_and_dragging_drive(), demo_repertoire().rules

    async def go() -> list[bool]:
        asked: list[Asked] = []
        await Hearing("proposal", Planner(40.0), rules, asked).propose(request)
        assert [each.request for each in asked] == [request]
        assert asked[0].planned is not None
        others = [Planner(40.0, "another"), Planner(35.0), Planner(-1.0)]
        return [await plans_the_same(asked, {"proposal": other}, rules) for other in others]

    assert asyncio.run(go()) == [True, False, False]


def test_nobody_plans_the_same_as_one_who_gave_no_plan():
    request, rules = oily_pads_and_dragging_drive(), demo_repertoire().rules

    async def go() -> bool:
        asked: list[Asked] = []
        with pytest.raises(ConnectionFault):
            await Hearing("proposal", Planner(-1.0), rules, asked).propose(request)
        return await plans_the_same(asked, {"proposal": Planner(40.0)}, rules)

    assert asyncio.run(go()) is False


def test_a_plot_escapes_what_it_shows_and_survives_nothing():
    text = svg("<b>", {"a & b": {"none": -3.0, "x": 5.0}}, ("none", "x"), "s")
    assert ElementTree.fromstring(text) is not None
    assert ElementTree.fromstring(svg("t", {}, ("none",), "s")) is not None
