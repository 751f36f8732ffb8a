"""A recording as the source of the embedded runtime, open loop: its episodes and incidents end in a log of their own.

Agent time is the recording's watermark, so a replay of that log comes to the same facts. Nothing can act: the mode is
observe, and there is no robot.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.clock import SystemClock, VirtualClock
from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.sqlite import SqliteStore
from connectors.notifiers.command import LogNotifier
from connectors.reasoners.playbook import PlaybookReasoner
from connectors.recordings.play import play
from connectors.recordings.sniff import Sniffed, sniff
from pipelines.advising import Advisor
from pipelines.config import DECISIVE, rulebooks
from pipelines.config_text import toml_text
from pipelines.decide import CellService, Storage
from pipelines.hosting import Folders
from pipelines.intake import KeptIntake
from pipelines.opening import VERSION, code_sha256
from pipelines.runner import FolderKeeper
from schemas.facts import AgentStarted, AnomalyDetected, AnyFact, ConfigAdopted, IncidentOpened
from schemas.playbook import Playbook
from schemas.samples import Input, Tick
from schemas.settings import SegmentSettings

QUEUE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class PlayedBack:
    """What a recording came to."""

    inputs: int
    episodes: int
    incidents: int


def play_back(path: Path, data: Path, *, mapped: Sniffed | None = None) -> PlayedBack:
    """Run one recording through the runtime into the log below `data`.

    Raises:
        RecordingError: the file cannot be used.
        LogError: the data folder cannot.
    """
    return asyncio.run(_play_back(path, data, mapped or sniff(path)))


async def _play_back(path: Path, data: Path, known: Sniffed) -> PlayedBack:
    messages = play(path, known.mapping, known.cell)  # Refuses the file before anything is written.
    folders, clock = Folders(data), VirtualClock()
    blobs = FileBlobs(folders.blobs)
    files = {
        "plant.toml": toml_text({"cells": [known.cell.model_dump(exclude_none=True)]}).encode(),
        "catalogue.toml": toml_text({"actions": []}).encode(),
        "policy.toml": b"",
    }
    rules = rulebooks(files)[known.cell.path]
    segments = SegmentSettings()
    store = SqliteStore.open(folders.log, clock=SystemClock())
    keeper = FolderKeeper(
        folders.segments(rules.cell),
        cell=rules.cell.path,
        bytes_max=segments.bytes_max,
        keep_bytes=segments.keep_bytes,
    )
    service = CellService(rules, Storage(store, blobs), KeptIntake(keeper, blobs, clock), clock, queue_max=QUEUE_MAX)
    nothing = PlaybookReasoner(Playbook(rules=()), "")
    advisor = Advisor(service, rules.cell, clock, {"reflex": nothing, "proposal": nothing}, [LogNotifier()])
    found: list[AnyFact] = []
    service.listeners.append(found.extend)
    try:
        await service.start(advisor, _opening(files, blobs))
        inputs = await _feed(service, clock, messages)
    finally:
        await advisor.close()
        keeper.close()
        await store.close()
    episodes = sum(isinstance(f, AnomalyDetected) for f in found)
    return PlayedBack(inputs, episodes, sum(isinstance(f, IncidentOpened) for f in found))


async def _feed(service: CellService, clock: VirtualClock, messages: Iterable[Input]) -> int:
    """Give every input of the recording; agent time is its watermark."""
    running, count = asyncio.create_task(service.run()), 0
    try:
        for message in messages:
            if isinstance(message, Tick):
                clock.advance(message.complete_until)
            await service.put(message)
            await service.settle()
            count += 1
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return count


def _opening(files: Mapping[str, bytes], blobs: FileBlobs) -> list[AnyFact]:
    adopted: list[AnyFact] = [
        ConfigAdopted(at=0, name=name, sha256=blobs.put(files[name]), who=getpass.getuser(), reason="recording")
        for name in DECISIVE
    ]
    return [*adopted, AgentStarted(at=0, version=VERSION, code_sha256=code_sha256(), mode="observe", epoch=0)]
