"""`jidoka eval`: sets from the package, from files, from a playbook and from a log; figures, page, exit status."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.config import load
from pipelines.demo.stage import SimulatedStage, until
from pipelines.evaluation.cases import text_of
from pipelines.evaluation.recorded import recorded_set
from pipelines.simulation import Simulation
from pipelines.whole_log import WholeLog
from schemas import facts
from schemas.errors import LogError
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


def test_what_was_proven_in_a_log_becomes_a_case_and_what_was_not_does_not(tmp_path):
    simulation, log = asyncio.run(mended())
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
    unproven = WholeLog([r for r in log.records if r.type != "effect.verified/1"], simulation.blobs)
    with pytest.raises(LogError, match="nothing that was proven right"):
        recorded_set(unproven, "a log")
