"""`jidoka eval`: sets from the package, from files, from a playbook and from a log; figures, page, exit status."""

import asyncio
import json
from dataclasses import replace
from functools import cache

import msgspec
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.commands import evaluate
from pipelines.commands.evaluate import _goals
from pipelines.config import load
from pipelines.demo.stage import SimulatedStage, until
from pipelines.evaluation import asking
from pipelines.evaluation.cases import text_of
from pipelines.evaluation.figures import Asked, Result
from pipelines.evaluation.judging import Judged
from pipelines.evaluation.module.cases import module_set
from pipelines.evaluation.recorded import recorded_set
from pipelines.simulation import Simulation
from pipelines.whole_log import WholeLog
from schemas import facts
from schemas.errors import LogError, RecordingError
from schemas.facts import encode
from schemas.sentences import Sentence
from tests.support.demo import CONFIG


def run(*words):
    return CliRunner().invoke(app, ["eval", "--reasoner", "playbook", *map(str, words)])


def test_the_packaged_set_is_asked_and_shown_beside_what_was_published():
    done = run("module", "--first", "5")
    assert done.exit_code == 0, done.output
    for said in ("exact", "false action", "unsafe", "p95", "who never acts", "Qwen2-72B-Instruct, unexpected: 38"):
        assert said in done.output


def test_json_page_and_kept_sets_say_the_same(tmp_path):
    done = run(
        "module", "--generate", "2", "--attacked", "--json", "--html", tmp_path / "x.html", "--keep", tmp_path / "k"
    )
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert [r["set"].split("+")[-1] for r in results].count("attacks") == 2
    files = sorted((tmp_path / "k").iterdir())
    assert len(files) == len(results) == 4
    again = json.loads(run(*files, "--json").stdout)
    assert [r["set_sha256"] for r in again] == [r["set_sha256"] for r in results]
    assert [r["missed"] for r in again] == [r["missed"] for r in results]
    assert (tmp_path / "x.html").read_text().count("<svg") == 4


@pytest.mark.parametrize(
    ("goal", "missed"),
    [
        (("--exact-min", "0.5"), ""),
        (("--exact-min", "0.99"), "exact 0.6"),
        (("--false-max", "0.01"), "false action 0.2"),
        (("--unsafe-max", "0.0"), ""),
    ],
)
def test_a_goal_that_is_not_met_ends_with_1_and_is_said(goal, missed):
    done = run("module", "--json", *goal)
    assert done.exit_code == (1 if missed else 0)
    assert missed in done.stderr


def test_no_set_is_overwritten(tmp_path):
    done = run("module", "--first", "1", "--keep", tmp_path)
    assert done.exit_code == 1
    assert "it exists" in str(done.exception)


def counted(exact: int, unsafe: int, of: int) -> Result:
    case = module_set().cases[0]
    verdicts = [Judged(exact=n < exact, refused=("range",) * (n >= of - unsafe)) for n in range(of)]
    return Result("x", {}, "s", "0" * 64, (), tuple(Asked(case, judged, 0.1) for judged in verdicts))


def test_a_goal_is_compared_with_what_was_counted_and_not_with_what_is_said_of_it():
    (missed,) = _goals(counted(25_000, 1, 25_000), 0.0, 1.0, 0.0)  # rounded to four places it was 0.0
    assert "unsafe 4e-05" in missed
    (missed,) = _goals(counted(24_749, 0, 25_000), 0.99, 1.0, 0.0)  # 0.98996
    assert "exact 0.98996" in missed
    assert _goals(counted(24_750, 0, 25_000), 0.99, 1.0, 0.0) == []


@pytest.mark.parametrize("place", ["nowhere/x.html", "."])
def test_a_page_that_could_not_be_written_is_refused_before_anything_is_asked(tmp_path, monkeypatch, place):
    monkeypatch.setattr(evaluate, "_asked", lambda *_: pytest.fail("it was asked"))
    done = run("module", "--html", tmp_path / place)
    assert isinstance(done.exception, RecordingError)
    assert "--html" in str(done.exception)


def test_figures_are_printed_before_the_page_is_written(tmp_path, monkeypatch):
    def full(results):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(evaluate, "page", full)
    done = run("module", "--first", "2", "--json", "--html", tmp_path / "x.html")
    assert isinstance(done.exception, OSError)
    assert json.loads(done.stdout)[0]["figures"]


def test_the_models_of_a_reasoner_are_made_ready_once_for_all_sets(monkeypatch):
    loaded = []

    async def ready(configuration):
        loaded.append(configuration.settings.reasoners.proposal)
        return {}

    monkeypatch.setattr(evaluate, "ready", ready)
    monkeypatch.setattr(asking, "ready", ready)
    done = run("module", "--generate", "1", "--attacked", "--first", "2", "--reasoner", "cascade")
    assert done.exit_code == 0, done.output
    assert loaded == ["playbook", "cascade"]


async def mended() -> tuple[Simulation, WholeLog]:
    """Oil on the pads, mended by the playbook and an operator's yes."""
    simulation = Simulation(load(CONFIG), seed=3)
    stage = SimulatedStage(simulation)
    async with simulation.running():
        await until(stage, facts.CalibrationAdopted, within_s=400.0)
        await stage.inject("oil_on_pads")

        def closed() -> bool:
            return any(isinstance(fact, facts.IncidentClosed) for fact in stage.facts)

        for _ in range(40):
            for command_id, progress in list(stage.state.commands.items()):
                if progress.phase == "awaiting_approval":
                    await stage.operate("approve", command_id)
            if await stage.wait(closed, 10.0):
                break
    return simulation, WholeLog([record async for record in simulation.store.read_all()], simulation.blobs)


@cache
def mended_log() -> WholeLog:
    return asyncio.run(mended())[1]


def woven(log: WholeLog, after: type, *said: facts.AnyFact) -> WholeLog:
    """Return the log with facts behind the first of a kind."""
    at = next(n for n, record in enumerate(log.records) if isinstance(record.fact, after)) + 1
    more = [replace(log.records[at], type="", data=encode(fact)) for fact in said]
    return WholeLog([*log.records[:at], *more, *log.records[at:]], log.blobs)


def first(log: WholeLog, kind: type, tier: str = "") -> facts.AnyFact:
    found = (record.fact for record in log.records if isinstance(record.fact, kind))
    return next(f for f in found if not tier or getattr(f, "request", f).tier == tier)


def test_a_sentence_in_a_log_is_no_case_and_no_hindrance():
    log = mended_log()
    asked = first(log, facts.ReasonerAsked, "proposal")
    sentence = Sentence("r1", "anna", "en", "grip with 40 N")
    request = msgspec.structs.replace(asked.request, incident_id="", sentence=sentence)
    about = msgspec.structs.replace(asked, request=request)
    assert recorded_set(woven(log, facts.ReasonerAsked, about), "a log").cases == recorded_set(log, "a log").cases


def test_a_plan_outside_any_incident_is_no_case_and_no_hindrance():
    log = mended_log()
    proposed = first(log, facts.PlanProposed, "proposal")
    (command,) = proposed.commands
    command = msgspec.structs.replace(command, incident_id="", command_id="c9", plan_id="p9")
    alone = msgspec.structs.replace(proposed, origin="operator", incident_id="", plan_id="p9", commands=(command,))
    done = facts.EffectVerified(at=alone.at, command_id="c9", rows=10, worst=0.0)
    completed = facts.PlanCompleted(at=alone.at, plan_id="p9")
    more = woven(log, facts.PlanCompleted, alone, done, completed)
    assert recorded_set(more, "a log").cases == recorded_set(log, "a log").cases


def test_a_proven_plan_stands_beside_the_question_that_it_answered_and_no_later_one():
    log = mended_log()
    asked = first(log, facts.ReasonerAsked, "proposal")
    later = msgspec.structs.replace(
        asked.request, request_id="later", evidence=msgspec.structs.replace(asked.request.evidence, state="HELD")
    )
    again = woven(log, facts.PlanCompleted, msgspec.structs.replace(asked, request=later))
    (case,) = recorded_set(again, "a log").cases
    assert case.request == asked.request


def test_what_was_proven_in_a_log_becomes_a_case_and_what_was_not_does_not(tmp_path):
    log = mended_log()
    found = recorded_set(log, "a log")
    (case,) = found.cases
    ((finding,),) = (right.findings for right in case.right)
    assert (finding.asset, [a.name for a in finding.actions]) == ("gripper", ["set_grip_force"])
    assert finding.actions[0].args == {"grip_force_n": (40.0, 40.0)}
    assert case.request.tier == "proposal"
    path = tmp_path / "log.jsonl"
    path.write_text(text_of(found))
    (result,) = json.loads(run(path, "--json").stdout)
    assert result["figures"][0]["exact"]["value"] == 1.0
    unproven = WholeLog([r for r in log.records if r.type != "effect.verified/1"], log.blobs)
    with pytest.raises(LogError, match="nothing that was proven right"):
        recorded_set(unproven, "a log")
