"""Kills a real agent at a named point, starts it again, and compares its log with the ledger of a real plant."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from connectors.clock import SystemClock
from connectors.plant.codes import State
from pipelines.demo.setting import cell_process, configure
from pipelines.hosting import Folders
from pipelines.log_place import LogPlace
from pipelines.proof import prove
from pipelines.whole_log import read_whole
from schemas import facts
from schemas.settings import PostgresSettings
from tests.support.corrective_story import once

SPEED = 10.0
LIFE_S = 120.0
"""Wall time within which an agent's process must have ended."""
EDITS: tuple[tuple[str, str, str], ...] = (
    ("plant.toml", "warm_up_rows = 60", "warm_up_rows = 20"),
    # At this speed a restart of two seconds is twenty of plant time: neither evidence nor effect may be late for it.
    ("policy.toml", "quiet_s = 30", "quiet_s = 5\nevidence_max_age_s = 1200"),
    ("catalogue.toml", "for_cycles = 10, within_s = 90", "for_cycles = 3, within_s = 1200"),
    ("catalogue.toml", "for_cycles = 3, within_s = 60", "for_cycles = 3, within_s = 1200"),
)

POINTS: tuple[tuple[str, int], ...] = (
    ("before robot.execute(set_motion_speed", 1),
    ("after robot.execute(set_motion_speed", 1),
    ("before robot.execute(set_grip_force", 1),
    ("after robot.execute(set_grip_force", 1),
    ("before store.append(snapshot.taken/1 guard.judged/1 command.intended", 2),
    ("after store.append(snapshot.taken/1 guard.judged/1 command.intended", 2),
    ("before store.append(operator.requested/1 approval.granted", 1),
    ("after store.append(operator.requested/1 approval.granted", 1),
    ("before store.append(command.answered", 2),
    ("after store.append(command.answered", 2),
    ("before store.append(readback.taken", 2),
    ("after keeper.append(Control", 1),
)
"""The twelve that every test run kills at: label and which crossing of it."""

MORE: tuple[tuple[str, int], ...] = (
    ("before store.take", 1),
    ("after store.take", 1),
    ("before store.append(config.adopted", 1),
    ("after store.append(config.adopted", 1),
    ("before blobs.put", 6),
    ("after blobs.put", 6),
    ("before store.append(calibration.adopted", 1),
    ("after store.append(calibration.adopted", 1),
    ("before keeper.append(SampleBatch", 20),
    ("after keeper.append(SampleBatch", 20),
    ("before keeper.append(Tick", 10),
    ("after keeper.append(Tick", 10),
    ("before keeper.sync", 10),
    ("after keeper.sync", 10),
    ("before store.append(anomaly.detected", 1),
    ("after store.append(anomaly.detected", 1),
    ("before store.append(reasoner.answered", 1),
    ("after store.append(reasoner.answered", 1),
    ("before store.append(reasoner.answered", 2),
    ("after store.append(reasoner.answered", 2),
    ("before robot.snapshot", 1),
    ("after robot.snapshot", 1),
    ("before store.append(snapshot.taken/1 guard.judged/1 command.intended", 1),
    ("after store.append(snapshot.taken/1 guard.judged/1 command.intended", 1),
    ("before store.append(command.answered", 1),
    ("after store.append(command.answered", 1),
    ("before store.append(readback.taken", 1),
    ("after store.append(readback.taken", 1),
    ("after store.append(readback.taken", 2),
    ("before keeper.append(Control", 1),
    ("before keeper.append(Control", 2),
    ("after keeper.append(Control", 2),
    ("before store.append(effect.verified", 1),
    ("after store.append(effect.verified", 1),
    ("before store.append(time.reached", 1),
    ("after store.append(time.reached", 1),
)
"""With the twelve, the full set."""


def killed_twice(folder: Path, at: str, count: int, keys: Path | None = None) -> list[str]:
    """Kill at a point, once more while it starts again, then let it end; returns violations."""
    return asyncio.run(_killed(folder, [(at, count), ("after store.take", 1)], keys)) or violations(folder)


def killed_once(folder: Path, at: str, count: int, keys: Path | None = None) -> list[str]:
    """Kill at a point, start again, let it end; returns violations.

    Args:
        folder: Of this run.
        at: Beginning of the point's label.
        count: Which crossing of it.
        keys: A folder of an earlier run, whose keys and users are taken; making them takes seconds.
    """
    return asyncio.run(_killed(folder, [(at, count)], keys)) or violations(folder)


async def _killed(folder: Path, kills: Sequence[tuple[str, int]], keys: Path | None) -> list[str]:
    folder.mkdir(parents=True)
    if keys is not None:
        for name in ("plant/pki", "plant/users", "agent/pki"):
            shutil.copytree(keys / name, folder / name)
    origin_us = SystemClock().now_us()
    async with cell_process(folder / "plant", speed=SPEED, seed=1, origin_us=origin_us) as ready:
        configure(folder, ready, SPEED, origin_us)
        for name, old, new in EDITS:
            path = folder / "config" / name
            text = path.read_text(encoding="utf-8")
            assert old in text, f"{name} no longer says {old!r}"
            path.write_text(text.replace(old, new), encoding="utf-8")
        for at, count in kills:
            code, said = await _life(folder, "--at", at, "--count", str(count))
            if code != -9:
                return [f"{at} {count}: ended with {code}, not by the kill: {said[-2000:]}"]
        code, said = await _life(folder)
        if code != 0:
            return [f"the last life ended with {code}: {said[-2000:]}"]
    return []


async def _life(folder: Path, *options: str) -> tuple[int, str]:
    words = [str(folder / "config"), str(folder / "plant" / "users" / "simulation.password"), *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.killed_agent", *words, stderr=subprocess.PIPE
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), LIFE_S)
    except TimeoutError:
        process.kill()
        _, said = await process.communicate()
    return process.returncode or 0, said.decode(errors="replace")


def violations(folder: Path, postgres: PostgresSettings | None = None) -> list[str]:
    """Compare an agent's log, in its folder or in a database, with the ledger of its plant; prove the log."""
    proof = prove(folder / "agent", postgres)
    found = [] if proof.good else [proof.text]
    records = read_whole(LogPlace(Folders(folder / "agent"), postgres)).records
    said = [record.fact for record in records]
    ledger, retained = _plc(folder / "plant" / "plc.sqlite")
    acted = Counter({command_id: 1 for command_id, state in ledger if state == State.DONE})
    found += once(said, [("execute", command_id, 0, "") for command_id, _ in ledger], acted)
    present = (retained.get("grip_force_n"), retained.get("motion_speed_pct"))
    closed = [f.outcome for f in said if isinstance(f, facts.IncidentClosed)]
    if (present != (40.0, 50.0) or "effective" not in closed) and not _explained(said, ledger):
        found.append(f"the cell ended at {present}, not at 40 N and 50 %; incidents closed as {closed}")
    return found


def _explained(said: Sequence[facts.AnyFact], ledger: Sequence[tuple[str, int]]) -> bool:
    """Whether the PLC refused a command, the log says so too, and a later one mended it or a person was called.

    At twenty times the speed a busy machine may be late by seconds of plant time, and the PLC is right to refuse then.
    """
    refused = {command_id for command_id, state in ledger if state == State.REJECTED}
    failed = {f.command_id for f in said if isinstance(f, facts.CommandFailed) and "rejected" in f.reason}
    mended = any(isinstance(f, facts.IncidentClosed) and f.outcome == "effective" for f in said)
    called = any(isinstance(f, facts.IncidentEscalated) for f in said)
    return bool(refused) and refused == failed and (mended or called)


def _plc(path: Path) -> tuple[list[tuple[str, int]], dict[str, float]]:
    """Read the PLC's own memory: what it was told and did, and what it retains."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return list(db.execute("SELECT id, state FROM ledger")), dict(db.execute("SELECT name, value FROM retained"))
    finally:
        db.close()
