"""What a person reads: the status screen, the socket's answers, the verifier's word, and the story of an incident."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from connectors.clock import VirtualClock
from connectors.eventlog.sqlite import SqliteStore
from pipelines.cli import app
from pipelines.commands.options import folders
from pipelines.demo.live import learnt
from pipelines.log_view import summary
from pipelines.screen import DID, answer_text, handover_text, status_table
from pipelines.status import view
from schemas.errors import ConfigError
from schemas.facts import AnyFact, CalibrationAdopted, GuardJudged, SourceChanged, TimeReached
from tests.support.builders import START, asked_by, detected
from tests.support.story import FORGOTTEN, Story

CELL = "jidoka/demo/assembly/line1/cell1"


def waiting_story() -> Story:
    """A proposal of 40 N that waits for a person."""
    story = Story()
    story.anomaly()
    story.answer()
    story.answer(("set_grip_force", {"grip_force_n": 40.0}))
    return story


def shown(story: Story, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(status_table([view(story.state, story.rules).as_dict()]))
    console.file.close()
    return console.export_text()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_decision_shows_change_and_reason_on_any_terminal(width):
    text = " ".join(shown(waiting_story(), width).split())
    for word in ("grip_force_n", "40 N", "0 of 1", "because", "slips", "decide by", "jidoka approve"):
        assert word in text


def test_the_handover_tells_what_waits():
    story = waiting_story()
    text = handover_text([view(story.state, story.rules).as_dict()])
    assert "grip_force_n 25 -> 40 N" in text


def test_an_incident_whose_command_is_in_doubt_says_what_to_do_and_not_that_it_is_closing():
    story = Story()
    story.anomaly()
    story.answer(("set_motion_speed", {"motion_speed_pct": 50.0}))
    story.snapshot()
    story.sent(FORGOTTEN)
    story.clears()
    assert "in doubt: look at the machine, then jidoka resolve" in shown(story, 160)


def test_every_kind_of_request_has_its_words():
    kinds = {"approve", "deny", "off", "on", "resolve", "rebaseline", "note", "needs_approval", "permitted"}
    assert kinds == set(DID)
    assert answer_text({"ok": True, "did": "off"}) == "automation is OFF: nothing more is sent"
    assert answer_text({"ok": True, "did": "permitted", "command_id": "0123456789"}).endswith("(01234567)")


def test_a_refusal_is_said_as_such():
    assert answer_text({"ok": False, "error": "range: too much"}) == "refused: range: too much"


def test_a_proposal_is_not_said_to_have_failed_rules_that_are_only_deferred():
    judged = next(f for f in reversed(waiting_story().facts) if isinstance(f, GuardJudged))
    assert "rules passed" in summary(judged)
    assert "judged before sending" in summary(judged)


def test_a_watch_that_hears_nothing_speaks_of_all_input():
    assert summary(SourceChanged(at=START, source="watch", alive=False)) == "all input is lost"


def calibrated() -> CalibrationAdopted:
    return CalibrationAdopted(at=START, group="cycle", rows=60, sha256="0" * 64)


def test_fault_keys_wait_for_the_normal_and_again_after_maintenance():
    moved = asked_by(START, "rebaseline", "r1")
    assert not learnt([])
    assert learnt([calibrated()])
    assert not learnt([calibrated(), moved])
    assert learnt([calibrated(), moved, calibrated()])


def test_the_folder_of_a_demo_leads_to_that_of_its_agent(tmp_path):
    (tmp_path / "agent" / "log").mkdir(parents=True)
    assert folders(Path(), tmp_path).data == tmp_path / "agent"
    assert folders(Path(), tmp_path / "agent").data == tmp_path / "agent"


def test_without_any_folder_both_ways_out_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--config .* --data"):
        folders(tmp_path, None)


def write_log(data: Path, said: list[AnyFact]) -> None:
    async def write() -> None:
        store = SqliteStore.open(data / "log", clock=VirtualClock(START))
        try:
            taken = await store.take(CELL)
            await store.append(CELL, said, expected=0, advance={}, epoch=taken.epoch)
        finally:
            await store.close()

    asyncio.run(write())


def test_the_story_of_an_incident_has_its_verdicts_and_no_strangers(tmp_path):
    story = waiting_story()
    stranger = detected(story.at, tag="drive_current_a", episode="ep-other")
    write_log(tmp_path, [*story.facts, stranger])
    incident = next(iter(story.state.incidents))
    result = CliRunner().invoke(app, ["log", "show", incident[:8], "--data", str(tmp_path)])
    assert result.exit_code == 0
    for name in ("anomaly.detected", "incident.opened", "reasoner.answered", "plan.proposed", "guard.judged"):
        assert name in result.output
    assert "drive_current_a" not in result.output


def test_a_verified_log_and_a_changed_one_are_said_in_words(tmp_path):
    write_log(tmp_path, waiting_story().facts)
    runner, arguments = CliRunner(), ["log", "verify", "--data", str(tmp_path)]
    good = runner.invoke(app, arguments)
    assert (good.exit_code, "records verify" in good.output) == (0, True)
    (tmp_path / "log" / "log.head").unlink()
    bad = runner.invoke(app, arguments)
    assert (bad.exit_code, "NOT AS WRITTEN" in bad.output) == (1, True)


@pytest.mark.parametrize(("wake_id", "said"), [("quiet|incident-1|5", "quiet of incident"), ("of old", "of old")])
def test_a_wake_up_of_any_name_has_its_line(wake_id, said):
    """Was: a name of no known form, which is nobody's, ended the command that showed the log."""
    assert summary(TimeReached(at=START, wake_id=wake_id)) == said
